"""What things will cost, reckoned before they are made, by a dated table of prices."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from bintally.cloud.options import CloudSettings
from bintally.errors import SettingsError

HOURS_A_MONTH = 730
PHOTO_MB = 0.06
"""Of a photo of the public dataset, more or less."""

Price = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """When and where the prices held."""

    date: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Prices of a GB and month."""

    machine_gb_month: Price
    bucket_gb_month: Price


@dataclass(frozen=True, slots=True, kw_only=True)
class Serverless:
    """Prices of counting without machines."""

    gb_second: Price
    data_gb: Price


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The table of prices, in US dollars.

    Attributes:
        table: when and where they held.
        machine_hour: instance type → an hour of it.
        storage: of disks and the bucket.
        serverless: of endpoints without machines.
    """

    table: Table
    machine_hour: Mapping[str, Price]
    storage: Storage
    serverless: Serverless


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that costs.

    Attributes:
        what: in words.
        usd: how much; None when the table does not know its machine.
        how: what was multiplied.
    """

    what: str
    usd: float | None
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """A sum, and what it stands for.

    Attributes:
        lines: what it is the sum of.
        span: what the sum covers, such as "at most" or "a day".
        notes: what else is to be known.
        table: the prices' date and region.
    """

    lines: tuple[Line, ...]
    span: str
    notes: tuple[str, ...] = ()
    table: Table

    @property
    def usd(self) -> float | None:
        """The sum; None when a part of it is not known."""
        parts = [line.usd for line in self.lines]
        return None if any(part is None for part in parts) else sum(part for part in parts if part is not None)

    def exceeds(self, limit: float) -> bool:
        """Whether it is more than a limit, or may be for all the table knows."""
        return self.usd is None or self.usd > limit

    def words(self) -> str:
        """The sum in half a sentence."""
        when = f"prices of {self.table.date}, {self.table.region}; check them"
        if self.usd is None:
            unknown = next(line for line in self.lines if line.usd is None)
            return f"cannot be reckoned: {unknown.how} ({when})"
        return f"{self.span} {dollars(self.usd)} ({when})"

    def as_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "usd": self.usd,
            "span": self.span,
            "lines": [{"what": line.what, "usd": line.usd, "how": line.how} for line in self.lines],
            "notes": list(self.notes),
            "prices": {"date": self.table.date, "region": self.table.region},
        }


def read_prices(path: Path | None = None) -> Prices:
    """The table that comes with bintally, or one like it.

    Raises:
        SettingsError: the file is missing or is no such table.
    """
    try:
        if path is None:
            text = (resources.files("bintally") / "cloud" / "prices.toml").read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        return TypeAdapter(Prices).validate_python(tomllib.loads(text))
    except OSError as error:
        raise SettingsError(f"cannot read the prices {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path or 'prices.toml'}: {where}: {first['msg']}") from error


def training_cost(settings: CloudSettings, prices: Prices) -> Reckoning:
    """The most that a training can cost: its time limit, on all its machines."""
    hours, num = settings.train_hours, settings.train_instances
    notes = []
    if settings.spot:
        notes.append("reckoned at the full price; spare capacity is usually 40 to 70 % cheaper")
    return Reckoning(
        lines=(
            _machines("training", settings.train_instance, num, hours, prices),
            _disks(settings.train_volume_gb, num, hours, prices),
        ),
        span="at most",
        notes=tuple(notes),
        table=prices.table,
    )


def tuning_cost(settings: CloudSettings, prices: Prices, num_jobs: int) -> Reckoning:
    """The most that a tuning can cost: every training at its time limit."""
    one = training_cost(settings, prices)
    lines = tuple(
        Line(
            what=line.what,
            usd=None if line.usd is None else line.usd * num_jobs,
            how=f"{num_jobs} trainings × {line.how}",
        )
        for line in one.lines
    )
    notes = (*one.notes, "trainings mostly end long before their limit: see [cloud] train_hours")
    return Reckoning(lines=lines, span="at most", notes=notes, table=prices.table)


def endpoint_cost(
    settings: CloudSettings,
    prices: Prices,
    *,
    serverless: bool = False,
    most: int | None = None,
    photos: int = 10_000,
) -> Reckoning:
    """A day of an endpoint with machines; or so many photos counted by one without.

    Args:
        settings: the machines, or the memory.
        prices: the table.
        serverless: without machines.
        most: how many machines autoscaling may make of it.
        photos: counted by a serverless endpoint.
    """
    if serverless:
        # A photo takes a tenth of a second on two cores, which is what some 3 GB come with; three times that to be safe.
        seconds, memory = 0.3, settings.serverless_memory_mb / 1024
        memory_line = Line(
            what="serverless endpoint",
            usd=photos * seconds * memory * prices.serverless.gb_second,
            how=f"{photos:,} photos × {seconds} s × {memory:g} GB × {prices.serverless.gb_second} USD",
        )
        data_line = Line(
            what="data",
            usd=photos * PHOTO_MB / 1000 * prices.serverless.data_gb,
            how=f"{photos:,} photos × {PHOTO_MB} MB × {prices.serverless.data_gb} USD/GB",
        )
        notes = ("costs nothing while nobody asks; 0.3 s a photo is a guess on the safe side",)
        return Reckoning(lines=(memory_line, data_line), span=f"{photos:,} photos:", notes=notes, table=prices.table)
    num = most or settings.serve_instances
    line = _machines("endpoint", settings.serve_instance, num, 24, prices)
    told = ["an endpoint costs by the hour, asked or not, until `bintally cloud destroy`"]
    if line.usd is not None:
        told.insert(0, f"{dollars(line.usd / 24 * HOURS_A_MONTH)} a month if it is forgotten")
    return Reckoning(lines=(line,), span="a day:", notes=tuple(told), table=prices.table)


def batch_cost(settings: CloudSettings, prices: Prices, photos: int | None) -> Reckoning:
    """A batch of so many photos: some minutes to start, then as many a second as two cores count."""
    if photos is None:
        line = _machines("batch", settings.batch_instance, settings.batch_instances, 1, prices)
        notes = ("a batch has no time limit of its own: how long it takes depends on the photos",)
        return Reckoning(lines=(line,), span="an hour:", notes=notes, table=prices.table)
    hours = 0.1 + photos / settings.batch_instances / PHOTOS_A_SECOND / 3600
    line = _machines("batch", settings.batch_instance, settings.batch_instances, hours, prices)
    notes = (f"at {PHOTOS_A_SECOND} photos a second and machine, which is a guess on the safe side",)
    return Reckoning(lines=(line,), span=f"{photos:,} photos: about", notes=notes, table=prices.table)


PHOTOS_A_SECOND = 20


def running_cost(machines: Sequence[tuple[str, str, int]], prices: Prices) -> Reckoning:
    """An hour of what runs: its name, instance type and number of machines each."""
    lines = tuple(_machines(name, instance, num, 1, prices) for name, instance, num in machines)
    return Reckoning(lines=lines, span="an hour:", table=prices.table)


def _machines(what: str, instance: str, num: int, hours: float, prices: Prices) -> Line:
    price = prices.machine_hour.get(instance)
    if price is None:
        return Line(what=what, usd=None, how=f"the table of prices does not have {instance}")
    return Line(what=what, usd=price * num * hours, how=f"{num} × {instance} × {hours:.3g} h × {price} USD")


def _disks(size_gb: int, num: int, hours: float, prices: Prices) -> Line:
    price = prices.storage.machine_gb_month
    usd = size_gb * num * hours / HOURS_A_MONTH * price
    return Line(what="disk", usd=usd, how=f"{num} × {size_gb} GB × {hours:.3g} h × {price} USD a month")


def dollars(usd: float) -> str:
    """An amount as people read it."""
    return f"{usd:,.2f} USD" if usd >= 0.01 or usd == 0 else f"{usd:.4f} USD"
