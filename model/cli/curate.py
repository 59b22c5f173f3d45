"""The command `curate`: drop unsuitable texts from a corpus."""

from pathlib import Path

import click
from tqdm import tqdm

from model.cli.options import FOLDER, NEW_FOLDER
from model.cli.terminal import echo


@click.command("curate")
@click.option("--corpus", type=FOLDER, required=True, help="Folder of DOMAIN.LANG.jsonl.gz files.")
@click.option(
    "--out", type=NEW_FOLDER, required=True, help="Folder for the cleaned corpus, in the same layout, and report.json."
)
@click.option("--heldout", type=FOLDER, help="Folder of held-out streams; texts that overlap with them are dropped.")
def curate_command(corpus: Path, out: Path, heldout: Path | None) -> None:
    """Drop low-quality, duplicate and held-out texts from a corpus; report.json counts the dropped texts by reason."""
    from model.train.data.corpus import corpus_files
    from model.train.data.curation.run import curate

    num_bytes = sum(path.stat().st_size for paths in corpus_files(corpus).values() for path in paths)
    with tqdm(total=num_bytes, desc="curating", unit="B", unit_scale=True) as bar:
        report = curate(corpus, out, heldout, bar.update)
    before, after = report["in"], report["out"]
    for step in report["steps"]:
        for rule in step["dropped"]:
            echo(f"{step['name']}: {rule['rule']}: {rule['records']:,} records, {rule['bytes']:,} bytes dropped")
    num_records = f"{after['records']:,} of {before['records']:,} records"
    echo(f"kept {num_records}, {after['bytes']:,} of {before['bytes']:,} bytes; {out}")
