"""`python -m sauron_train` is the command `sauron-train`."""

from sauron_train.cli import main

if __name__ == "__main__":
    main()
