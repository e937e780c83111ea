"""`python -m producer`: the same as the command `gpen-archive`."""

from producer.cli import main

if __name__ == "__main__":
    main()
