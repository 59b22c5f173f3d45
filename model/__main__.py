"""The command line: `python -m model COMMAND`."""

from model.cli.main import main

if __name__ == "__main__":
    main(prog_name="python -m model")
