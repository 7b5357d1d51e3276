"""Short histories for the tests of the debug rules."""

from bintally.learn.history import Check, Finding, History, Rule, Validation


def check(step: int = 1, loss: float | None = 1.0, **fields: object) -> Check:
    return Check(step=step, epoch=1, loss=loss, mean_loss=loss, **fields)  # type: ignore[arg-type]


def found(rule: Rule, *checks: Check, validations: tuple[Validation, ...] = (), **rest: object) -> list[Finding]:
    return list(rule.findings(History(checks=checks, validations=validations, **rest)))  # type: ignore[arg-type]


def epochs(*losses: tuple[float | None, float | None]) -> tuple[Validation, ...]:
    return tuple(
        Validation(step=10 * n, epoch=n, train_loss=train, loss=validation)
        for n, (train, validation) in enumerate(losses, start=1)
    )
