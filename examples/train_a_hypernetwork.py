"""Two minutes of meta-training: the bundled hypernetwork learns handwritten digits, scikit-learn's 8×8 images at 32 px.

    python examples/train_a_hypernetwork.py [--out runs/digits] [--steps 150]

Press Ctrl+C whenever you like: the same command goes on where the run was. At the end it predicts the parameters of networks
that it has never seen, and prints their accuracies on 500 test images, without any training of these networks.
"""

import argparse
import sys

import ghn_init
from digits import digits
from ghn_init import Images


def split() -> tuple[Images, Images]:
    """1,297 training and 500 test images."""
    pixels, labels = digits()
    train = Images.from_tensors(pixels[:-500], labels[:-500])
    return train, Images.from_tensors(pixels[-500:], labels[-500:], like=train)


def main() -> None:
    """Trains, then tests on unseen networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/digits")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--pool", type=int, default=60, help="training networks")
    parser.add_argument("--networks", type=int, default=5, help="test networks")
    options = parser.parse_args()
    train, test = split()

    def show(progress: ghn_init.Progress) -> None:
        if progress.step % 10 == 0:
            print(f"step {progress.step:4}  loss {progress.loss:.2f}  accuracy {100 * progress.accuracy:.0f} %", flush=True)

    recipe = {
        "steps": options.steps,
        "pool": options.pool,
        "batch_size": 32,
        "budget": 0.08,
        "least_examples": 8,
        "lr": 1e-3,
        "warmup": 20,
        "save_minutes": 0.1,
    }
    start = ghn_init.load()  # digits get a new head beside CIFAR-10's; a GHNConfig in its place starts from nothing
    try:
        ghn = ghn_init.train({"digits": train}, options.out, ghn=start, on_step=show, **recipe)
    except KeyboardInterrupt:
        sys.exit(f"stopped; the same command goes on with the run in {options.out}")
    found = ghn_init.evaluate(test, ghn, task="digits", networks="test", count=options.networks)
    for row in found.results:
        print(f"unseen network {row.index}: {row.accuracy:.1f} % without training")


if __name__ == "__main__":
    main()
