"""Many threads on one guard: are verdicts those of one thread, and does memory stay where it is?

    python benchmarks/soak.py                       8 threads, 10,000 texts each, the released guard
    python benchmarks/soak.py --guard FOLDER --texts 2000

Texts are those of the built-in corpus, short and long, encoded ones among them. Exit code 1 where a verdict differs
from the serial one or resident memory grows by more than 5 % between the first tenth of the run and its end.
"""

from __future__ import annotations

import argparse
import base64
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
from record import keep

from guardlib import Guard

MOST_GROWTH = 0.05


@dataclass(frozen=True)
class Soak:
    """``different``: verdicts unlike the serial ones; ``resident_mb``: at even intervals, the first after a tenth."""

    scans: int
    different: int
    seconds: float
    resident_mb: list[float]

    @property
    def growth_mb(self) -> float:
        """Largest resident memory after the first sample, less the first."""
        return max(self.resident_mb[1:], default=self.resident_mb[0]) - self.resident_mb[0]


def soak(guard: Guard, texts: Sequence[str], threads: int = 8, texts_each: int = 10_000, samples: int = 10) -> Soak:
    """Scan ``texts_each`` texts in each of ``threads`` threads, every thread from another start, and compare."""
    expected = [guard.scan(text) for text in texts]
    done, different, failures = [0] * threads, [0] * threads, []

    def work(thread: int) -> None:
        try:
            for step in range(texts_each):
                index = (thread * 7919 + step) % len(texts)
                different[thread] += guard.scan(texts[index]) != expected[index]
                done[thread] = step + 1
        except Exception as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    resident = []
    for sample in range(samples):
        share = 0.1 + 0.9 * sample / max(samples - 1, 1)
        while sum(done) < share * threads * texts_each and any(worker.is_alive() for worker in workers):
            time.sleep(0.01)
        resident.append(psutil.Process().memory_info().rss / 1e6)
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return Soak(sum(done), sum(different), time.perf_counter() - started, resident)


def corpus_texts() -> list[str]:
    """Held-out attacks, benign text and hard negatives; every tenth in base64; ten of them in a row now and then."""
    from guardlib.data.corpus import corpus_benchmark_frames

    frames = corpus_benchmark_frames()
    texts = [text for part in ("attacks", "benign", "hard_negatives") for text in frames[part]["text"]]
    encoded = [base64.b64encode(text.encode()).decode() for text in texts[::10]]
    return texts + encoded + ["\n".join(texts[start : start + 10]) for start in range(0, len(texts), 50)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--guard", type=Path, help="guard folder; default: the release inside the package")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--texts", type=int, default=10_000, help="per thread")
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results and the README")
    options = parser.parse_args()
    texts = corpus_texts()
    guard = Guard.load(options.guard, threads=1)
    result = soak(guard, texts, options.threads, options.texts)
    print(
        f"{result.scans:,} scans of {len(texts)} texts in {options.threads} threads: {result.seconds:.0f} s, ", end=""
    )
    print(f"{result.scans / result.seconds:.0f} texts/s; {result.different} verdicts differ from the serial ones")
    print("resident MB:", " ".join(f"{value:.0f}" for value in result.resident_mb))
    too_much = result.growth_mb > MOST_GROWTH * result.resident_mb[0]
    print(f"growth after the first tenth: {result.growth_mb:.1f} MB{' (too much)' if too_much else ''}")
    if options.keep:
        row = {"scans": result.scans, "threads": options.threads, "different": result.different}
        row |= {"texts_per_second": round(result.scans / result.seconds), "seconds": round(result.seconds)}
        row |= {"first_mb": round(result.resident_mb[0], 1), "highest_mb": round(max(result.resident_mb), 1)}
        keep("soak", pd.DataFrame([row]))
    return int(too_much or result.different > 0)


if __name__ == "__main__":
    sys.exit(main())
