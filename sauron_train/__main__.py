"""`python -m sauron_train` is the command `sauron-train`."""

from sauron_train.entry import begin


def main() -> None:
    """Run the command."""
    begin("sauron_train.cli")


if __name__ == "__main__":
    main()
