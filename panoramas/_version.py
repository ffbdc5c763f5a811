"""The version of the client and of the server. Every other place reads it from here."""

__version__ = "0.2.0"
