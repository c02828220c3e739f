#version 330 core
// The share of one localisation that falls into this pixel. Shares of one localisation sum to 1.

const int GAUSSIAN = 0, SPLINE = 1;

flat in vec2 centre;
flat in vec2 form;
flat in int kernel;
flat in vec2 value;

out vec4 sums;      // share, share * value, share where the value is known

void main()
{
    vec2 off = abs(gl_FragCoord.xy - centre);
    float share;
    if (kernel == GAUSSIAN) {
        share = form.y * exp(form.x * dot(off, off));
    } else if (kernel == SPLINE) {
        vec2 far = max(1.5 - off, 0.0);
        vec2 axes = mix(0.5 * far * far, 0.75 - off * off, lessThan(off, vec2(0.5)));
        share = axes.x * axes.y;
    } else {
        vec2 axes = clamp(form.x + 0.5 - off, 0.0, 1.0) * form.y;
        share = axes.x * axes.y;
    }
    sums = vec4(share, share * value.x, share * value.y, 0.0);
}
