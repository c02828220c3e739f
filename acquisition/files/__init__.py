"""Readers of recorded stacks, one module a family of formats, behind one small class."""
