"""`python -m benchmarks [name…]`: runs the named benchmarks, or all, and fails when a promise is not kept.

One that cannot run, or breaks, is told and counts as not kept; those after it run all the same.
"""

import importlib
import pkgutil
import sys
import traceback

import benchmarks


def names() -> list[str]:
    """The benchmarks there are: every module here whose name does not begin with `_`."""
    return sorted(one.name for one in pkgutil.iter_modules(benchmarks.__path__) if not one.name.startswith("_"))


def main(words: list[str]) -> int:
    """Prints a table for each; 1 when a limit is not held, 2 when there is no benchmark of that name."""
    for word in words:
        if word not in names():
            print(f"error: there is no benchmark {word!r}; there are {', '.join(names())}", file=sys.stderr)
            return 2
    held = True
    for name in words or names():
        try:
            table = importlib.import_module(f"benchmarks.{name}").main()
        except SystemExit as error:  # what it needs is not there
            print(f"{name}: {error}\n", file=sys.stderr)
            held = False
            continue
        except Exception:  # noqa: BLE001 - hours of others must not be lost with it
            traceback.print_exc()
            print(f"{name}: broke\n", file=sys.stderr)
            held = False
            continue
        print(table, end="\n\n", flush=True)
        held &= table.is_held
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
