"""Which levels make the transfer: runs in which only some stages are as they were pretrained.

Of every arm but the reference, the stages up to a cut are kept and those after it initialised
again, and the reverse, each in two ways (``standard`` and ``matched``, see the method
``transplant``); every such backbone is then fine-tuned as the arm itself was. What a run loses to
the arm is what the stages that it lacks were worth with the others there. The losses of all arms
are one family, corrected by Holm's method. What it keeps over the reference is shown beside it, as
a share of the arm's gain only where there is one: its own interval lies above 0.

Source: Zhao et al. 2021 (it is low- and mid-level features that transfer), asked by intervention;
Raghu et al. 2019, "Transfusion" (weight transfusion).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from whytransfer.backbone.architecture import Architecture, levels_of
from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.records import Finding, Table
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset
from whytransfer.diagnose.analysis import ScoredRun, Variant
from whytransfer.diagnose.comparing import family_of, number
from whytransfer.diagnose.contrasts import (
    COLUMNS,
    Contrast,
    Precision,
    Row,
    Scores,
    Term,
    arms_of,
    family,
    images_of,
    largest,
    on_same_images,
    reference_of,
    require_variants,
    score,
    seed_table,
    seeds_caveat,
    weights_for,
)

QUESTION = "Which levels of the backbone make the transfer?"
NEEDS = "scored"

_WHERE = "stage_transplant"
_LEVELS = tuple(level.name for level in levels_of(Architecture()))
_NUM_NAMED = 3
_CAVEAT = (
    "A cut takes pretrained stages away from others that were trained with them, so a loss is the"
    " stages' worth and the broken fit together. Losses of different cuts overlap: shares of the"
    " gain don't add up. Standard initialisation also takes the scale of the weights away; matched"
    " weights keep mean and deviation, and so leak scale. BatchNorm starts anew in both."
    " The fine-tuning recipe was made for an uncut backbone, and a longer one may recover more."
)

Keep = Literal["up_to", "from"]
Rest = Literal["standard", "matched"]


class Config(BaseConfig):
    """Which cuts are made, and how the runs are compared.

    Attributes:
        cuts: Levels after which the backbone is cut: ``stem`` to ``layer3``.
        keep: Which side of a cut is kept as it was pretrained: ``up_to`` it, or ``from`` the next
            level on.
        rest: How the other side starts.
        reference: The arm that was not pretrained, which gains are counted from. It is not cut.
        precision: Which AP, where the runs are detectors.
        num_draws: Draws of the bootstrap, at least; as many more as Holm's correction needs.
        seed: Of the bootstrap.
    """

    cuts: tuple[str, ...] = Field(_LEVELS[:-1], min_length=1)
    keep: tuple[Keep, ...] = Field(("up_to", "from"), min_length=1)
    rest: tuple[Rest, ...] = Field(("standard", "matched"), min_length=1)
    reference: str = "random_init"
    precision: Precision = "AP"
    num_draws: int = Field(1000, ge=100)
    seed: int = 0

    @field_validator("cuts")
    @classmethod
    def _are_cuts(cls, cuts: tuple[str, ...]) -> tuple[str, ...]:
        for cut in cuts:
            if cut not in _LEVELS[:-1]:
                allowed = ", ".join(_LEVELS[:-1])
                raise ValueError(f"no cut after {cut!r}: a backbone can be cut after {allowed}")
        return cuts


class _Cut(NamedTuple):
    keep: Keep
    level: str
    rest: Rest

    @property
    def name(self) -> str:
        return f"{self.keep}_{self.level}_{self.rest}"

    @property
    def taken(self) -> str:
        """The levels that it takes away, in words."""
        place = _LEVELS.index(self.level)
        gone = _LEVELS[place + 1 :] if self.keep == "up_to" else _LEVELS[:place]
        return gone[0] if len(gone) == 1 else f"{gone[0]} to {gone[-1]}"


def variants(config: Config) -> list[Variant]:
    """Lists the transplanted runs: one per cut, side that is kept, and way to start the other."""
    return [
        Variant(cut.name, cut._asdict(), except_for=(config.reference,)) for cut in _cuts(config)
    ]


def _cuts(config: Config) -> list[_Cut]:
    found = []
    for keep, after, rest in itertools.product(config.keep, config.cuts, config.rest):
        level = after if keep == "up_to" else _LEVELS[_LEVELS.index(after) + 1]
        found.append(_Cut(keep, level, rest))
    return found


@dataclass(frozen=True)
class _Effect:
    """What a cut does to an arm: what it loses to the whole arm, what it keeps over the reference.

    ``share`` is what it keeps in percent of the gain, ``None`` where no gain is shown.
    """

    arm: str
    cut: _Cut
    loss: Contrast
    kept: Contrast
    share: float | None


def answer(
    runs: Sequence[ScoredRun], data: Dataset | None, config: Config, workspace: Path
) -> Finding:
    """Says which levels an arm can't do without, from its transplanted runs.

    Raises:
        InputError: A run is missing (all are named), the runs were not tested on the same images,
            or the reference is not among the arms.
    """
    arms, cuts = arms_of(runs), _cuts(config)
    reference = reference_of(arms, config.reference, _WHERE)
    names = ["", *(cut.name for cut in cuts)]
    wanted = [run for run in runs if run.variant in names]
    require_variants(wanted, names, reference, _WHERE)
    others = [arm for arm in arms if arm != reference]
    on_same_images(wanted, _WHERE)
    stream = Stream(config.seed, f"{_WHERE}/images")
    num_images = len(images_of(wanted[0]))
    weights = weights_for(stream, num_images, config.num_draws, len(cuts) * len(others))
    scores = score(wanted, weights, config.precision)
    gains = {arm: _gain(scores, arm, reference) for arm in others}
    effects = _effects(scores, gains, cuts, reference)
    losses = [effect.loss for effect in effects]
    chosen = largest(losses)
    return Finding(
        analysis=_WHERE,
        question=QUESTION,
        answer=_sentence(effects, scores),
        headline=chosen.metric(f"{scores.metric}[{chosen.label}]", scores.unit, num_images),
        caveat=_CAVEAT + seeds_caveat(losses),
        metrics=tuple(
            contrast.metric(f"{scores.metric}[{contrast.label}]", scores.unit, num_images)
            for contrast in (*gains.values(), *losses, *(e.kept for e in effects))
            if contrast.label != chosen.label
        ),
        tables=(
            _loss_table(effects, scores),
            _gain_table(gains, scores),
            seed_table([*gains.values(), *losses], scores.unit),
        ),
        figures=_figures(effects, gains, config),
    )


def _gain(scores: Scores, arm: str, reference: str) -> Contrast:
    return scores.contrast(f"{arm} - {reference}", Term(1, arm), Term(-1, reference))


def _effects(
    scores: Scores, gains: dict[str, Contrast], cuts: Sequence[_Cut], reference: str
) -> list[_Effect]:
    """Measures every cut of every arm; the losses are corrected as one family."""
    pairs = list(itertools.product(gains, cuts))
    losses = family(
        [
            scores.contrast(f"{arm} {cut.name} - {arm}", Term(1, arm, cut.name), Term(-1, arm))
            for arm, cut in pairs
        ]
    )
    effects = []
    for (arm, cut), loss in zip(pairs, losses, strict=True):
        kept = scores.contrast(
            f"{arm} {cut.name} - {reference}", Term(1, arm, cut.name), Term(-1, reference)
        )
        gain = gains[arm]
        gained = gain.excludes_zero and scores.better(gain) > 0
        share = 100.0 * kept.value / gain.value if gained else None
        effects.append(_Effect(arm, cut, loss, kept, share))
    return effects


def _sentence(effects: Sequence[_Effect], scores: Scores) -> str:
    count, unit = family_of(len(effects)), scores.unit
    ordered = sorted(effects, key=lambda e: abs(e.loss.value), reverse=True)
    shown = [effect for effect in ordered if effect.loss.shown]
    if not shown:
        most = ordered[0]
        return (
            f"No difference shown between any cut backbone and the whole one ({count}); the"
            f" largest is {most.arm} with {_said(most)}, {most.loss.said(unit)}."
        )
    parts = []
    for effect in shown[:_NUM_NAMED]:
        loses = "loses" if scores.better(effect.loss) < 0 else "gains"
        how_much = f"{effect.loss.said(unit)}{_left(effect)}"
        parts.append(f"{effect.arm} {loses} with {_said(effect)} ({how_much})")
    rest = len(shown) - len(parts)
    more = f"; {rest} more in the table" if rest else ""
    spared = [effect for effect in ordered if not effect.loss.shown]
    none = f" Of {len(spared)} other cuts no difference is shown." if spared else ""
    return "; ".join(parts) + f"{more} ({count}).{none}"


def _said(effect: _Effect) -> str:
    return f"{effect.cut.taken} initialised again ({effect.cut.rest})"


def _left(effect: _Effect) -> str:
    return "" if effect.share is None else f", {effect.share:.0f} % of the gain left"


def _loss_table(effects: Sequence[_Effect], scores: Scores) -> Table:
    rows: list[Row] = [
        {
            "arm": effect.arm,
            "kept": f"{effect.cut.keep.replace('_', ' ')} {effect.cut.level}",
            "the rest": effect.cut.rest,
            **effect.loss.columns(),
            "over the reference": number(effect.kept.value),
            "% of the gain": effect.share,
        }
        for effect in effects
    ]
    columns = ("arm", "kept", "the rest", *COLUMNS, "over the reference", "% of the gain")
    title = f"What a cut backbone loses to the whole one ({scores.metric}, {scores.unit})"
    return Table(title=title, columns=columns, rows=tuple(rows))


def _gain_table(gains: dict[str, Contrast], scores: Scores) -> Table:
    rows = [
        {
            "arm": arm,
            "gain": number(gain.value),
            "low": gain.certainty.low,
            "high": gain.certainty.high,
            "over": gain.certainty.over,
        }
        for arm, gain in gains.items()
    ]
    title = f"What the whole arms gain over the reference ({scores.metric}, {scores.unit})"
    return Table(title=title, columns=("arm", "gain", "low", "high", "over"), rows=tuple(rows))


def _figures(
    effects: Sequence[_Effect], gains: dict[str, Contrast], config: Config
) -> dict[str, tuple[Row, ...]]:
    """Returns what is kept over the reference at each level, by side and start; the whole, too."""
    figures = {}
    for keep, rest in itertools.product(config.keep, config.rest):
        rows = [
            _dot(effect.arm, effect.cut.level, effect.kept)
            for effect in effects
            if (effect.cut.keep, effect.cut.rest) == (keep, rest)
        ]
        whole = _LEVELS[-1] if keep == "up_to" else _LEVELS[0]
        rows += [_dot(arm, whole, gain) for arm, gain in gains.items()]
        rows.sort(key=lambda row: (str(row["arm"]), _LEVELS.index(str(row["level"]))))
        figures[f"gain_kept_{keep}_{rest}"] = tuple(rows)
    return figures


def _dot(arm: str, level: str, found: Contrast) -> Row:
    certainty = found.certainty
    return {
        "arm": arm, "level": level, "value": number(found.value),
        "low": certainty.low, "high": certainty.high,
    }  # fmt: skip
