"""`python -m sauron_viz` is the command `sauron-viz`."""

from sauron_train.entry import begin


def main() -> None:
    """Run the command."""
    begin("sauron_viz.cli")


if __name__ == "__main__":
    main()
