"""How a run is carried out, as opposed to what is trained (the method's Settings)."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from silverpoint.errors import UsageError

METRICS = ("psnr", "ssim", "fsim", "lpips_alex")  # of a validation
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def option(
    default: Any,
    help: str,
    *,
    changeable: bool = False,
    metavar: str | None = None,
    choices: tuple[str, ...] = (),
    low: float | None = None,
) -> Any:
    """A field of RunOptions and its flag. A `changeable` one may be given anew to a run that is resumed."""
    metadata = {"help": help, "changeable": changeable, "metavar": metavar, "choices": choices, "low": low}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def flag_of(name: str) -> str:
    """How an option of a run is spelt on the command line: save_minutes as --save-minutes."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class RunOptions:
    datasets: tuple[str, ...] = option((), "dataset folders, from `prepare`", changeable=True)
    subset: str | None = option(None, "learn from one subset of the datasets alone, such as CUHK")
    unpaired: tuple[str, ...] = option(
        (), "datasets whose sketches a method learns beside its pairs", changeable=True, metavar="DATASET"
    )
    start_from: str | None = option(
        None, "begin with the networks of another run or model file (fine-tuning)", metavar="RUN"
    )
    seed: int = option(0, "of the networks' first weights, the order of the pairs, their augmentation", low=0)
    style_weights: dict[str, float] = option(  # noqa: RUF009
        {}, "draw a style's pairs W times as often", metavar="STYLE=W,..."
    )
    style_ink: dict[str, float] = option(  # noqa: RUF009
        {}, "raise the ink of a style's sketches to the power W: below 1 a firmer hand", metavar="STYLE=W,..."
    )
    precision: str = option(
        "auto",
        "auto: bf16-mixed where the GPU or CPU computes in it, else 32-true",
        choices=PRECISIONS,
    )
    accumulate: int = option(
        1,
        "compute each batch in N parts: the same updates in less memory",
        changeable=True,
        metavar="N",
        low=1,
    )
    accelerator: str = option("auto", "auto, cpu, cuda, mps", changeable=True)
    devices: str = option("1", "per machine: how many, or which, e.g. 2 or 0,1", changeable=True)
    nodes: int = option(1, "how many machines", changeable=True, low=1)
    compile: bool = option(False, "compile the networks (torch.compile)", changeable=True)
    deterministic: bool = option(False, "repeat bit for bit on a GPU too, slower", changeable=True)
    save_minutes: float = option(5.0, "between checkpoints", changeable=True, metavar="M", low=0)
    keep: int = option(2, "how many of the last checkpoints are kept", changeable=True, metavar="K", low=1)
    validate_epochs: int = option(1, "between validations", changeable=True, metavar="N", low=1)
    select: str = option(
        "lpips_alex", "validation metric that chooses the best checkpoint", changeable=True, choices=METRICS
    )

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value, low, choices = getattr(self, f.name), f.metadata["low"], f.metadata["choices"]
            flag = flag_of(f.name)
            if low is not None and not value >= low:
                raise UsageError(f"{flag} must be at least {low}, not {value}")
            if choices and value not in choices:
                raise UsageError(f"{flag} must be one of {', '.join(choices)}, not {value}")


def build_options(values: Mapping[str, Any]) -> RunOptions:
    """RunOptions from a mapping, as YAML or flags give it; UsageError for what is no option."""
    from difflib import get_close_matches

    known = [f.name for f in dataclasses.fields(RunOptions)]
    for name in values:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise UsageError(f"there is no option {name!r} of a run; {hint}")
    return RunOptions(**_all_typed(values))


def _all_typed(values: Mapping[str, Any]) -> dict[str, Any]:
    types = get_type_hints(RunOptions)
    return {name: _typed(name, value, types[name]) for name, value in values.items()}


def _typed(name: str, value: Any, kind: Any) -> Any:
    if kind == tuple[str, ...]:
        return (value,) if isinstance(value, str) else tuple(str(v) for v in value or ())
    if kind == dict[str, float]:
        return _weights(name, value)
    if kind == (str | None):
        return None if value is None else str(value)
    return convert(name, value, kind)


def _weights(name: str, value: Any) -> dict[str, float]:
    """{"cufs": 4.0}, of that or of the flag's "cufs=4"."""
    try:
        items = [item.split("=") for item in value.split(",")] if isinstance(value, str) else value.items()
        weights = {str(style): float(weight) for style, weight in items}
    except (AttributeError, TypeError, ValueError):
        raise UsageError(f"{flag_of(name)} takes STYLE=NUMBER,..., not {value!r}") from None
    for style, weight in weights.items():
        if not 0 < weight < math.inf:
            raise UsageError(f"{flag_of(name)} {style}={weight}: must be above 0")
    return weights


def convert(name: str, value: Any, kind: type) -> Any:
    """A value from a flag or YAML as the type of its field; UsageError where it is none."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if kind is int and isinstance(value, float) and value != int(value):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError, KeyError):
        raise UsageError(f"--{name} must be {kind.__name__}, not {value!r}") from None


def plain(options: RunOptions) -> dict[str, Any]:
    """The inverse of `build_options`: lists, numbers and strings alone."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(options).items()}


def changed(options: RunOptions, values: Mapping[str, Any]) -> RunOptions:
    """The options of a run that is resumed with some of them given anew; UsageError for one that is fixed."""
    values = _all_typed(values)
    fixed = {f.name for f in dataclasses.fields(RunOptions) if not f.metadata["changeable"]}
    for name, value in values.items():
        if name in fixed and value != getattr(options, name):
            raise UsageError(
                f"{flag_of(name)} is fixed once a run has begun (here {getattr(options, name)!r}); "
                "a new run can begin with this one's networks: --start-from"
            )
    return dataclasses.replace(options, **values)
