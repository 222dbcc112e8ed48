"""Detectron2's checkpointer, for which a file that is missing or does not fit is an error."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer


@dataclass
class Origin:
    """What the backbone of a checkpoint started from; kept in it, as the model does not show it.

    Attributes:
        weights: where the pretrained weights came from, in words.
        random_init: it started untrained.
    """

    weights: str = ""
    random_init: bool = False

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights, self.random_init = state["weights"], state["random_init"]


class StrictCheckpointer(DetectionCheckpointer):
    """Loads a checkpoint only if every key and shape fits the model.

    Raises:
        FileNotFoundError: (on loading) there is no such file.
        ValueError: (on loading) names what is missing, unexpected or of another shape.
    """

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if path and "://" not in path and not Path(path).is_file():
            raise FileNotFoundError(f"no checkpoint at {path}")
        return super().load(path, *args, **kwargs)

    def _load_model(self, checkpoint: Any) -> Any:
        incompatible = super()._load_model(checkpoint)
        misshapen = [name for name, *_ in incompatible.incorrect_shapes]
        problems = {
            "missing": [name for name in incompatible.missing_keys if name not in misshapen],
            "unexpected": incompatible.unexpected_keys,
            "of another shape": misshapen,
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
