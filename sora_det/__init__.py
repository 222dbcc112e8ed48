"""SoRA detection: domain-generalised object detection by tuning minor singular components."""

__version__ = "0.1.0"
