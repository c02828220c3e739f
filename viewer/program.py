"""Shader programs from the files in viewer/shaders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenGL import GL  # type: ignore[import-untyped]

from config.errors import RuntimeUnavailable

SHADERS = Path(__file__).parent / "shaders"


class Program:
    """A linked pair of a vertex and a fragment shader; needs a current context throughout."""

    def __init__(self, vertex: str, fragment: str) -> None:
        """Names of files in viewer/shaders. Raises RuntimeUnavailable with what the driver says of them."""
        parts = [_compiled(vertex, GL.GL_VERTEX_SHADER), _compiled(fragment, GL.GL_FRAGMENT_SHADER)]
        self._program = GL.glCreateProgram()
        for part in parts:
            GL.glAttachShader(self._program, part)
        GL.glLinkProgram(self._program)
        for part in parts:
            GL.glDeleteShader(part)
        if not GL.glGetProgramiv(self._program, GL.GL_LINK_STATUS):
            raise RuntimeUnavailable(_refused(f"{vertex} and {fragment}", GL.glGetProgramInfoLog(self._program)))
        self._places: dict[str, int] = {}

    def use(self) -> None:
        """Draw with it from now on."""
        GL.glUseProgram(self._program)

    def set(self, name: str, *values: float) -> None:
        """Set a float, vec2, vec3 or vec4. The program must be in use."""
        setter = (GL.glUniform1f, GL.glUniform2f, GL.glUniform3f, GL.glUniform4f)[len(values) - 1]
        setter(self._place(name), *(min(max(value, -LARGEST), LARGEST) for value in values))

    def set_int(self, name: str, value: int) -> None:
        """Set an int, a bool or the texture unit of a sampler."""
        GL.glUniform1i(self._place(name), value)

    def delete(self) -> None:
        """Give its memory back."""
        GL.glDeleteProgram(self._program)

    def _place(self, name: str) -> int:
        if name not in self._places:
            self._places[name] = GL.glGetUniformLocation(self._program, name)
        return self._places[name]


LARGEST = 3e38
"""What a float of the graphics card holds, in place of infinity."""


def _compiled(name: str, kind: Any) -> int:
    shader: Any = GL.glCreateShader(kind)
    GL.glShaderSource(shader, (SHADERS / name).read_text(encoding="utf-8"))
    GL.glCompileShader(shader)
    if not GL.glGetShaderiv(shader, GL.GL_COMPILE_STATUS):
        raise RuntimeUnavailable(_refused(name, GL.glGetShaderInfoLog(shader)))
    return int(shader)


def _refused(name: str, log: bytes | str) -> str:
    text = log.decode(errors="replace") if isinstance(log, bytes) else log
    return f"the graphics driver does not take the shader {name}: {text.strip()}. Update the driver."
