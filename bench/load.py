"""A known load for a GPU: ``python -m bench.load --seconds 60 --gibibytes 20``.

Multiplies matrices on the first GPU through PyTorch, which this project does not install, with so
much memory held beside them.
"""

import argparse
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--gibibytes", type=int, default=20)
    options = parser.parse_args()

    import torch  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

    held = torch.ones(options.gibibytes * 2**30, dtype=torch.uint8, device="cuda")
    left = torch.rand(8192, 8192, dtype=torch.bfloat16, device="cuda")
    right = torch.rand(8192, 8192, dtype=torch.bfloat16, device="cuda")
    print("loaded", flush=True)
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        for _ in range(50):
            torch.mm(left, right)
        torch.cuda.synchronize()
    del held


if __name__ == "__main__":
    main()
