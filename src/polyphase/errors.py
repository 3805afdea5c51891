"""Exceptions of polyphase; each is also the type that PyTorch raises for the same mistake."""


class PolyphaseError(Exception):
    """Base of every exception that polyphase defines.

    >>> issubclass(GeometryError, PolyphaseError)
    True
    """


class GeometryError(PolyphaseError, ValueError, RuntimeError):
    """A value breaks a rule of the arithmetic: sizes, strides, channels, groups.

    PyTorch raises ``ValueError`` for some of these mistakes (layers) and ``RuntimeError`` for the
    same ones elsewhere (functions), so that code which catches either keeps working.

    >>> import polyphase as pp
    >>> pp.Geometry(3, stride=0)
    Traceback (most recent call last):
    ...
    polyphase.errors.GeometryError: stride must be at least 1, got 0
    """


class OutputSizeError(GeometryError):
    """A requested output size cannot be reached; the message lists those that can.

    >>> import polyphase as pp
    >>> issubclass(pp.OutputSizeError, ValueError)
    True
    """


class Unsupported(PolyphaseError, NotImplementedError):
    """The request is meaningful, but this framework, machine or method cannot express it exactly.

    PyTorch raises ``NotImplementedError`` where it has no kernel, which is a ``RuntimeError``.

    >>> issubclass(Unsupported, RuntimeError)
    True
    """
