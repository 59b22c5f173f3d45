import pickle

from model.sweep.settings import Settings, Shard, part_name


def test_settings_can_be_sent_to_a_worker() -> None:
    settings = Settings(model="mini-v3", paths=("a.jsonl",), out="/sweep", shards=(Shard(0, 0, 3, 40),))
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert settings.part(3).as_posix() == "/sweep/parts/part-00003.parquet"
    assert part_name(12) == "part-00012.parquet"
