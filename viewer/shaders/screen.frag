#version 330 core
// Sums become colours. `front` is the last whole picture, perhaps of another view; `back` the one that is being drawn.

in vec2 at;
out vec4 colour;

uniform sampler2D front, back;
uniform vec4 front_at, back_at;     // texture coordinate = xy + at * zw
uniform vec4 front_whole;           // where front is complete: left, top, right, bottom as texture coordinates
uniform vec2 gain;                  // of front and back: from sums to density [1/µm²]
uniform float fade;                 // share of back where front is there
uniform bool has_front, has_back;   // what is not there is not looked up: that is most of the work

uniform sampler1D colours;
uniform vec2 limits;                // densities shown black and at full brightness
uniform float gamma;
uniform bool by_value;
uniform vec2 values;                // at the ends of the colour map

const vec3 COLOURLESS = vec3(0.75); // where no localisation knows its value

vec3 sums()
{
    vec3 newer = has_back ? texture(back, back_at.xy + at * back_at.zw).rgb * gain.y : vec3(0.0);
    if (!has_front) return newer;
    vec2 spot = front_at.xy + at * front_at.zw;
    bool there = all(greaterThanEqual(spot, front_whole.xy)) && all(lessThanEqual(spot, front_whole.zw));
    return there ? mix(texture(front, spot).rgb * gain.x, newer, fade) : newer;
}

void main()
{
    vec3 sum = sums();
    float bright = pow(clamp((sum.r - limits.x) / max(limits.y - limits.x, 1e-30), 0.0, 1.0), gamma);
    vec3 shade;
    if (by_value) {
        float place = clamp((sum.g / max(sum.b, 1e-30) - values.x) / max(values.y - values.x, 1e-30), 0.0, 1.0);
        shade = bright * (sum.b > 0.0 ? texture(colours, place).rgb : COLOURLESS);
    } else {
        float texels = float(textureSize(colours, 0));
        shade = texture(colours, (bright * (texels - 1.0) + 0.5) / texels).rgb;
    }
    colour = vec4(shade, 1.0);
}
