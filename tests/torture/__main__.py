"""`make torture`: every part, one after the other, and what came of each.

python -m tests.torture [--full] [PART ...]
"""

import argparse
import os
import subprocess
import sys
import time

PARTS = {
    "boundaries": ["tests.torture.boundaries"],
    "io_errors": ["tests.torture.io_errors"],
    "powercut": ["tests.torture.powercut"],
    "full_disk": ["tests.torture.full_disk"],
    "kills": ["tests.torture.kills"],
    "crowd": ["tests.torture.crowd"],
    "writers": ["tests.torture.writers"],
    "mute_names": ["tests.torture.mute_names"],
    "proxy": ["tests.torture.proxy"],
    "real_faults": ["tests.torture.real_faults"],
    "locked": ["tests.torture.locked"],
    "soak": ["tests.torture.soak"],
    "clients": ["tests.torture.clients"],
    "peers": ["tests.torture.peers"],
    "machines": ["pytest", "-q", "tests/machines", "tests/servers", "tests/times"],
    "planted": ["tests.torture.planted"],
}


def main() -> int:
    """Returns 0 if every part found what was promised."""
    parser = argparse.ArgumentParser(description="everything that tries to lose a session")
    parser.add_argument("--full", action="store_true", help="each part's longest version")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=", ".join(PARTS))
    arguments = parser.parse_args()
    results: list[tuple[str, int, float]] = []
    for part in arguments.parts or PARTS:
        module, *rest = PARTS[part]
        full = ["--full"] if arguments.full and module != "pytest" else []
        print(f"\n== {part}", flush=True)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", module, *rest, *full], env={**os.environ, "TORTURE": "1"}, check=False
        )
        results.append((part, done.returncode, time.monotonic() - began))
    print("\n== all")
    for part, code, seconds in results:
        print(
            f"{part:12} {'as promised' if code == 0 else f'NOT AS PROMISED (exit {code})':28} {seconds:6.0f} s"
        )
    return 1 if any(code for _, code, _ in results) else 0


if __name__ == "__main__":
    sys.exit(main())
