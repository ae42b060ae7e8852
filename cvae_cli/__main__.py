"""``python -m cvae_cli`` is the ``cvae`` command."""

from cvae_cli.cli import main

if __name__ == "__main__":
    main()
