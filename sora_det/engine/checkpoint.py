"""Detectron2's checkpointer, for which a file that does not fit is an error."""

from typing import Any

from detectron2.checkpoint import DetectionCheckpointer


class StrictCheckpointer(DetectionCheckpointer):
    """Loads a checkpoint only if every key and shape fits the model.

    Raises:
        ValueError: (on loading) names what is missing, unexpected or of another shape.
    """

    def _load_model(self, checkpoint: Any) -> Any:
        incompatible = super()._load_model(checkpoint)
        problems = {
            "missing": incompatible.missing_keys,
            "unexpected": incompatible.unexpected_keys,
            "of another shape": [name for name, *_ in incompatible.incorrect_shapes],
        }
        lines = [
            f"{len(names)} {what}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
            for what, names in problems.items()
            if names
        ]
        if lines:
            raise ValueError(
                f"the checkpoint does not fit the model ({'; '.join(lines)}); was it made by "
                "another config?"
            )
        return incompatible
