#version 330 core
// One triangle over the whole window. `at` is (0, 0) in its upper left corner and (1, 1) in its lower right one.

out vec2 at;

void main()
{
    vec2 corner = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
    at = vec2(corner.x, 1.0 - corner.y);
    gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
}
