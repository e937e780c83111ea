"""A plan for people and for programs: a `Plan` goes in, tables or JSON come out.

Pure. The JSON's shape is a contract; a change of meaning raises `SCHEMA_VERSION`. docs/plan.md
has it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from jobs.candidates import FileKind
from jobs.durations import duration
from worker.codec import PageHeader
from worker.codec.native import ColourModel, name_special
from worker.survey.headers import Surveyed
from worker.survey.measure import Rate
from worker.survey.plan import Plan
from worker.terminal import plain

SCHEMA_VERSION = 1
_SHOWN = 5
_WHY = {
    FileKind.IGNORED: "no photo by its suffix",
    FileKind.OURS: "delivered by an earlier run",
    FileKind.HIDDEN: "hidden",
}
_NAMED = {
    name_special(model, is_float=False): model.value
    for model in (ColourModel.CMYK, ColourModel.LAB)
}


def to_json(plan: Plan) -> str:
    """Return a plan for programs."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "source": plan.source,
        "recipe": plan.recipe.model_dump(mode="json"),
        "photos": {
            "total": len(plan.photos),
            "readable": len(plan.readable),
            "faulty": len(plan.photos) - len(plan.readable),
            "pages": sum(len(pages(photo)) for photo in plan.readable),
            "megapixels": round(plan.megapixels, 3),
            "bytes": sum(photo.size_bytes for photo in plan.photos),
        },
        "passed_over": {kind.value: plan.passed_over[kind] for kind in _WHY},
        "formats": {
            name: {"photos": len(photos), "megapixels": round(_megapixels(photos), 3)}
            for name, photos in by_format(plan.readable).items()
        },
        "samples": dict(by_samples(plan.readable)),
        "faults": {code: len(photos) for code, photos in by_fault(plan.photos).items()},
        "duplicates": [asdict(group) for group in plan.comparison.groups],
        "expected": {
            "output_bytes": plan.output_bytes,
            "seconds": plan.expected_s,
            "standard_error_s": plan.error_s,
            "workers": plan.workers,
            "rate": asdict(plan.rate) if plan.rate else None,
        },
        "bytes_read": {
            "headers": plan.header_bytes,
            "duplicates": plan.comparison.bytes_read,
        },
        "files": [_file(photo) for photo in plan.photos],
    }
    return json.dumps(content, indent=2)


def tables(plan: Plan) -> Iterator[Table]:
    """Yield a plan for people, part by part; empty parts are left out."""
    yield _totals(plan)
    if plan.readable:
        yield _formats(plan)
        yield _samples(plan)
        yield _largest(plan)
    if len(plan.readable) < len(plan.photos):
        yield _faults(plan)
    if plan.comparison.groups:
        yield _duplicates(plan)
    if plan.readable:
        yield _expected(plan)


def pages(photo: Surveyed) -> tuple[PageHeader, ...]:
    """Return what is known of a photo's pages."""
    return photo.header.pages if photo.header else ()


def by_format(photos: Iterable[Surveyed]) -> dict[str, list[Surveyed]]:
    """Group readable photos by their container."""
    groups: defaultdict[str, list[Surveyed]] = defaultdict(list)
    for photo in photos:
        if photo.header is not None:
            groups[photo.header.container.value].append(photo)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def by_samples(photos: Iterable[Surveyed]) -> Counter[str]:
    """Count pages by what their samples are, such as `16-bit gray`."""
    counts = Counter(_samples_of(page) for photo in photos for page in pages(photo))
    return Counter(dict(counts.most_common()))


def by_fault(photos: Iterable[Surveyed]) -> dict[str, list[Surveyed]]:
    """Group photos that would fail by the code of their fault."""
    groups: defaultdict[str, list[Surveyed]] = defaultdict(list)
    for photo in photos:
        if photo.fault is not None:
            groups[photo.fault.code].append(photo)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def _samples_of(page: PageHeader) -> str:
    kind = f"{page.bits}-bit {'' if page.sample_format == 'uint' else 'float '}{_colours(page)}"
    return f"{kind} with alpha" if page.alpha else kind


def _colours(page: PageHeader) -> str:
    if page.palette:
        return "palette"
    return _NAMED.get(page.special, "gray" if page.colours == 1 else "RGB")


def _file(photo: Surveyed) -> dict[str, Any]:
    record: dict[str, Any] = {"key": photo.key, "bytes": photo.size_bytes}
    if photo.header is None:
        return record | {"fault": asdict(photo.fault) if photo.fault else None}
    return record | {
        "container": photo.header.container.value,
        "megapixels": round(photo.megapixels, 6),
        "expected_bytes": photo.output_bytes,
        "pages": [_page(page) for page in photo.header.pages],
    }


def _page(page: PageHeader) -> dict[str, Any]:
    dpi = page.resolution.per_inch() if page.resolution else None
    return {
        "width": page.width,
        "height": page.height,
        "bits": page.bits,
        "channels": page.channels,
        "sample_format": page.sample_format,
        "colours": _colours(page),
        "alpha": page.alpha.value if page.alpha else None,
        "compression": page.compression,
        "icc": page.icc,
        "orientation": page.orientation,
        "dpi": [round(float(side), 2) for side in dpi] if dpi else None,
    }


def _totals(plan: Plan) -> Table:
    table = _facts()
    readable = plan.readable
    every = [page for photo in readable for page in pages(photo)]
    table.add_row("source", Text(plain(plan.source)))
    table.add_row("photos", f"{len(plan.photos):,} in {_size(plan.photos)}")
    table.add_row(
        "readable", f"{len(readable):,} with {_pages(len(every))}, {plan.megapixels:,.1f} MP"
    )
    for kind, why in _WHY.items():
        if plan.passed_over[kind]:
            table.add_row("passed over", f"{plan.passed_over[kind]:,} {why}")
    carried = {
        "without ICC profile": sum(not page.icc for page in every),
        "without resolution": sum(page.resolution is None for page in every),
        "to turn upright": sum(page.orientation != 1 for page in every),
    }
    for what, count in carried.items():
        if count:
            table.add_row(what, _pages(count))
    read = f"{decimal(plan.header_bytes)} of headers"
    if plan.comparison.bytes_read:
        read += f", {decimal(plan.comparison.bytes_read)} to compare files of one size"
    table.add_row("read", read)
    return table


def _pages(count: int) -> str:
    return "1 page" if count == 1 else f"{count:,} pages"


def _formats(plan: Plan) -> Table:
    table = _numbers("format", "photos", "MP", "size")
    for name, photos in by_format(plan.readable).items():
        table.add_row(name, f"{len(photos):,}", f"{_megapixels(photos):,.1f}", _size(photos))
    return table


def _samples(plan: Plan) -> Table:
    table = _numbers("samples", "pages")
    for name, count in by_samples(plan.readable).items():
        table.add_row(name, f"{count:,}")
    return table


def _largest(plan: Plan) -> Table:
    table = _numbers("largest", "MP", "size")
    for photo in sorted(plan.readable, key=lambda photo: (-photo.megapixels, photo.key))[:_SHOWN]:
        table.add_row(Text(plain(photo.key)), f"{photo.megapixels:,.1f}", decimal(photo.size_bytes))
    return table


def _faults(plan: Plan) -> Table:
    table = Table("would fail", box=None, pad_edge=False)
    table.add_column("photos", justify="right")
    table.add_column("which, why, and what to do", overflow="fold")
    for code, photos in by_fault(plan.photos).items():
        which = Text(_some([photo.key for photo in photos]))
        if fault := photos[0].fault:
            first = "the first: " if len(photos) > 1 else ""
            which.append(f"\n{first}{plain(fault.message)}")
            which.append(f"\n{fault.advice}", style="dim")
        table.add_row(code, f"{len(photos):,}", which)
    return table


def _duplicates(plan: Plan) -> Table:
    groups = plan.comparison.groups
    table = Table("the same", box=None, pad_edge=False)
    table.add_column("photos", justify="right")
    table.add_column("spare", justify="right")
    table.add_column("which", overflow="fold")
    for number, group in enumerate(groups[:_SHOWN], 1):
        keys = Text(_some(group.keys))
        table.add_row(f"{number}", f"{len(group.keys):,}", decimal(group.spare_bytes), keys)
    if len(groups) > _SHOWN:
        rest = groups[_SHOWN:]
        photos = sum(len(group.keys) for group in rest)
        spare = decimal(sum(group.spare_bytes for group in rest))
        table.add_row("more", f"{photos:,}", spare, f"in {len(rest):,} groups")
    return table


def _expected(plan: Plan) -> Table:
    table = _facts()
    table.add_row("expected size", decimal(plan.output_bytes))
    if plan.rate is None or plan.expected_s is None:
        table.add_row("expected time", "not measured")
        return table
    who = "1 worker" if plan.workers == 1 else f"{plan.workers:,} workers"
    off = f", {plan.error_s / plan.expected_s:.0%} more or less" if plan.error_s else ""
    table.add_row("expected time", f"{duration(plan.expected_s)} for {who}{off}")
    table.add_row("rate", _rate(plan.rate))
    return table


def _rate(rate: Rate) -> str:
    return (
        f"{rate.per_photo_s:.2f} s a photo, {rate.per_megapixel_s:.2f} s a megapixel, "
        f"{rate.per_face_s:.2f} s a face ({rate.faces_per_photo:.1f} a photo), "
        f"measured on {rate.samples:,} of them"
    )


def _facts() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table


def _numbers(what: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(what, overflow="fold")
    for number in numbers:
        table.add_column(number, justify="right")
    return table


def _megapixels(photos: Iterable[Surveyed]) -> float:
    return sum(photo.megapixels for photo in photos)


def _size(photos: Iterable[Surveyed]) -> str:
    return decimal(sum(photo.size_bytes for photo in photos))


def _some(keys: Iterable[str]) -> str:
    """Return the first of some names, and how many more there are."""
    names = [plain(key) for key in keys]
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
