#version 330 core
// A localisation becomes a square of pixels; the fragment shader fills it with the localisation's share of each.

layout(location = 0) in vec2 place;     // x, y [nm]
layout(location = 1) in vec4 codes;     // precision, photons, background, probability: viewer/codes.py
layout(location = 2) in vec2 more;      // z as a code, frame in strides from the chunk's first

const int PRECISION = 0, FIXED = 1, HISTOGRAM = 2;          // mode
const int GAUSSIAN = 0, SPLINE = 1, BOX = 2;                // kernel
const int DENSITY = 0, CODE = 1, DEPTH = 2, FRAME = 3;      // by
const float REACH = 3.5;                // standard deviations to which a Gaussian is drawn
const float NARROWEST = 0.65;           // [pixels]: sampled at pixel centres, a narrower Gaussian's sum would depend on its place
const float TO_SPLINE = 0.575;          // [pixels]: below, a quadratic B-spline, whose standard deviation is 0.5 pixel
const float UNKNOWN = 0.0, ZERO = 32768.0;

uniform vec2 corner;                    // of the first pixel, rounded to what a float holds [nm]
uniform vec2 rest;                      // what the rounding left [pixels]
uniform vec2 size;                      // of the image [pixels]
uniform float pixels_per_nm;
uniform float widest;                   // square that can be drawn [pixels]
uniform vec4 inside;                    // only points in this part of the image are drawn: left, top, right, bottom [pixels]

uniform int mode;
uniform float width;                    // standard deviation or bin [nm]
uniform vec2 precision_scale;           // unit, step

uniform vec4 lowest, highest;           // filters on codes
uniform vec2 lowest_more, highest_more;
uniform vec4 limits_of_place;              // filters on place: left, top, right, bottom [nm]

uniform int by;
uniform vec4 by_mask;                   // which of codes
uniform vec2 by_scale;                  // unit, step
uniform vec2 frames;                    // first of the chunk, stride

flat out vec2 centre;                   // [pixels]
flat out vec2 form;                     // GAUSSIAN: -1 / (2 sigma^2), peak; BOX: half its width, 1 / width
flat out int kernel;
flat out vec2 value;                    // the value that is the colour, and 1; 0, 0 where it is unknown

float decoded(float code, vec2 scale)
{
    float steps = (code - ZERO) * scale.y;
    // sinh as a difference of exponentials cancels near 0
    return scale.x * (abs(steps) < 0.1 ? steps * (1.0 + steps * steps / 6.0) : sinh(steps));
}

float erf(float x)  // Abramowitz and Stegun 7.1.26, |error| < 1.5e-7, x >= 0
{
    float t = 1.0 / (1.0 + 0.3275911 * x);
    return 1.0 - ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * exp(-x * x);
}

bool hidden()
{
    return any(lessThan(codes, lowest)) || any(greaterThan(codes, highest))
        || any(lessThan(more, lowest_more)) || any(greaterThan(more, highest_more))
        || any(lessThan(place, limits_of_place.xy)) || any(greaterThan(place, limits_of_place.zw));
}

vec2 coloured()
{
    if (by == FRAME) return vec2(frames.x + more.y * frames.y, 1.0);
    float code = by == DEPTH ? more.x : dot(codes, by_mask);
    return code == UNKNOWN ? vec2(0.0) : vec2(decoded(code, by_scale), 1.0);
}

float shape()  // sets form and kernel; half the square's side [pixels]
{
    if (mode == HISTOGRAM) {
        float half_width = max(width * pixels_per_nm, 1.0) / 2.0;
        kernel = BOX;
        form = vec2(half_width, 0.5 / half_width);
        return min(half_width + 0.5, widest / 2.0);
    }
    float sigma = mode == PRECISION && codes.x != UNKNOWN ? decoded(codes.x, precision_scale) : width;
    sigma *= pixels_per_nm;
    if (sigma < TO_SPLINE) {
        kernel = SPLINE;
        form = vec2(0.0);
        return 1.5;
    }
    sigma = max(sigma, NARROWEST);
    float reach = min(REACH * sigma, widest / 2.0);
    float share = erf(reach / sigma * 0.70710678);  // of the Gaussian that is drawn, on one axis
    kernel = GAUSSIAN;
    form = vec2(-0.5 / (sigma * sigma), 0.15915494 / (sigma * sigma * share * share));
    return reach;
}

void main()
{
    vec2 drawn = mode == HISTOGRAM ? (floor(place / width) + 0.5) * width : place;
    centre = (drawn - corner) * pixels_per_nm - rest;
    value = by == DENSITY ? vec2(0.0) : coloured();
    float reach = shape();
    bool away = any(lessThan(centre, inside.xy - reach)) || any(greaterThan(centre, inside.zw + reach));
    gl_PointSize = 2.0 * reach;
    gl_Position = away || hidden() ? vec4(2.0, 2.0, 2.0, 1.0) : vec4(centre / size * 2.0 - 1.0, 0.0, 1.0);
}
