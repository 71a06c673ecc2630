from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rerankd.engine.sources import name_of_source
from rerankd.errors import BadSettings
from rerankd.settings import (
    CascadeSettings,
    ChannelSettings,
    ModelSettings,
    Section,
    Settings,
    load_settings,
    variables,
)

ROOT = Path(__file__).parents[1]
SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "some.toml") -> Path:
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


def parse(**table: Any) -> Settings:
    return Settings.parse(table)


def test_nothing_has_to_be_set() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8000)
    assert (settings.server.deadline, settings.server.max_body) == (60, 32 * 2**20)
    assert (settings.auth.mode, settings.api_key, settings.models) == ("auto", None, ())
    assert (settings.engine.max_wait, settings.engine.batch_tokens) == (30, None)


def test_a_file_sets_what_it_names_and_leaves_the_rest() -> None:
    file = written(
        '[server]\nport = 9000\nmax_body = "1MiB"\n[auth]\nmode = "off"\n'
        '[[models]]\nname = "fast"\nsource = "lexical"\naliases = ["quick"]\n[defaults]\nmodel = "quick"\n'
    )
    settings = load_settings(file)
    assert settings.server == Settings.parse({"server": {"port": 9000, "max_body": 2**20}}).server
    assert settings.auth.mode == "off"
    assert settings.models == (ModelSettings(name="fast", source="lexical", aliases=("quick",)),)
    assert settings.defaults.model == "quick"


def test_a_model_is_as_its_maker_left_it_unless_the_file_says_otherwise() -> None:
    names = ("max_query_length", "score", "instruction", "quantization", "prefix_reuse")

    def how(toml: str) -> tuple[object, ...]:
        (model,) = load_settings(written(f'[[models]]\nname = "qwen"\n{toml}')).models
        return tuple(getattr(model, name) for name in names)

    assert how("") == (None, "auto", None, "none", True)
    said = 'max_query_length = 64\nscore = "logit"\ninstruction = "Find."\nquantization = "int8"\nprefix_reuse = false'
    assert how(said) == (64, "logit", "Find.", "int8", False)


def test_the_file_of_this_folder_is_read_where_none_is_named() -> None:
    written("[server]\nport = 9000\n", "rerankd.toml")
    assert load_settings().server.port == 9000
    assert load_settings(written("")).server.port == 8000


def test_the_example_is_a_configuration_and_takes_the_names_of_other_servers_documents() -> None:
    (model,) = load_settings(ROOT / "examples" / "rerankd.toml").models
    assert model.name == "builtin"
    assert {"jina-reranker-v3", "jina-reranker-v2-base-multilingual", "BAAI/bge-reranker-v2-m3"} <= set(model.aliases)


def test_a_variable_wins_over_the_file_and_the_command_line_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    file = written('[server]\nport = 1\nhost = "file"\ndeadline = 5\n')
    monkeypatch.setenv("RERANKD_SERVER_PORT", "2")
    monkeypatch.setenv("RERANKD_SERVER_HOST", "environment")
    server = load_settings(file, {"server": {"port": 3}}).server
    assert (server.port, server.host, server.deadline) == (3, "environment", 5)


@pytest.mark.parametrize(
    ("variable", "value", "section", "name", "meant"),
    [
        ("RERANKD_SERVER_HOST", "::1", "server", "host", "::1"),
        ("RERANKD_SERVER_DEADLINE", "1.5", "server", "deadline", 1.5),
        ("RERANKD_SERVER_MAX_BODY", "64kB", "server", "max_body", 64_000),
        ("RERANKD_SERVER_MAX_DOCUMENTS", "7", "server", "max_documents", 7),
        ("RERANKD_SERVER_RECEIVE_TIMEOUT", "3", "server", "receive_timeout", 3),
        ("RERANKD_AUTH_MODE", "off", "auth", "mode", "off"),
        ("RERANKD_ENGINE_MAX_WAIT", "2.5", "engine", "max_wait", 2.5),
        ("RERANKD_ENGINE_BATCH_TOKENS", "2048", "engine", "batch_tokens", 2048),
        ("RERANKD_DEFAULTS_MODEL", "builtin", "defaults", "model", "builtin"),
    ],
)
def test_a_variable_is_the_section_and_the_name(
    variable: str, value: str, section: str, name: str, meant: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert variable in variables()
    assert getattr(getattr(load_settings(), section), name) == meant


def test_models_come_from_a_variable_as_json_and_replace_those_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKD_MODELS", json.dumps([{"name": "two", "source": "lexical"}]))
    settings = load_settings(written('[[models]]\nname = "one"\n'))
    assert settings.models == (ModelSettings(name="two", source="lexical"),)


def test_an_empty_list_of_models_is_not_the_same_as_none_given() -> None:
    assert "models" in load_settings(written("models = []")).model_fields_set
    assert "models" not in load_settings().model_fields_set


@pytest.mark.parametrize("value", ["nonsense", '{"name": "one"}', '["one"]', '[{"source": "one"}]'])
def test_models_that_are_no_list_of_objects_are_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKD_MODELS", value)
    with pytest.raises(BadSettings, match="models"):
        load_settings()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (1024, 1024),
        ("1024", 1024),
        ("2048b", 2048),
        ("1KiB", 1024),
        ("2kb", 2000),
        ("32MiB", 32 * 2**20),
        ("32 mib", 32 * 2**20),
        ("5MB", 5_000_000),
        ("1GiB", 2**30),
        ("1gb", 10**9),
    ],
)
def test_a_size_is_bytes_or_has_a_unit(given: int | str, meant: int) -> None:
    assert parse(server={"max_body": given}).server.max_body == meant


@pytest.mark.parametrize(
    "given", ["", "MiB", "32TiB", "32 M", "1.5MiB", "-1MiB", "1MiB1", 1023, "2GiB", None, [], True]
)
def test_a_size_that_is_none_or_out_of_bounds_is_refused_by_name(given: object) -> None:
    with pytest.raises(BadSettings, match=r"^server\.max_body: "):
        parse(server={"max_body": given})


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"serve": {}}, "serve"),
        ({"server": {"prot": 1}}, "server.prot"),
        ({"auth": {"keys": []}}, "auth.keys"),
        ({"models": [{"name": "a"}, {"name": "b", "sauce": "c"}]}, "models.1.sauce"),
        ({"defaults": {"top_n": 1}}, "defaults.top_n"),
    ],
)
def test_an_unknown_name_is_refused_and_said(table: dict[str, Any], named: str) -> None:
    with pytest.raises(BadSettings) as caught:
        Settings.parse(table)
    assert caught.value.message == f"{named}: is no setting of rerankd"


def test_an_unknown_name_in_a_file_is_refused_and_said() -> None:
    with pytest.raises(BadSettings, match=r"server\.max_bodi"):
        load_settings(written('[server]\nmax_bodi = "1MiB"\n'))


@pytest.mark.parametrize("name", ["RERANKD_PORT", "RERANKD_SERVER_PROT", "RERANKD_SERVER", "RERANKD_"])
def test_an_unknown_variable_is_refused_and_the_known_ones_are_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "{}")
    with pytest.raises(BadSettings, match=f"{name} is no setting of rerankd.*RERANKD_SERVER_PORT"):
        load_settings()


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"server": {"port": "many"}}, "server.port"),
        ({"server": {"port": 65536}}, "server.port"),
        ({"server": {"deadline": 0}}, "server.deadline"),
        ({"server": {"deadline": float("nan")}}, "server.deadline"),
        ({"server": {"max_documents": 0}}, "server.max_documents"),
        ({"server": 7}, "server"),
        ({"server": {"database": "postgresql://here"}}, "server.database"),
        ({"server": {"database": "sqlite:///"}}, "server.database"),
        ({"server": {"database": "sqlite:///:memory:"}}, "server.database"),
        ({"secret_key": "x" * 31}, "secret_key"),
        ({"auth": {"mode": "maybe"}}, "auth.mode"),
        ({"models": [{"source": "lexical"}]}, "models.0.name"),
        ({"models": [{"name": "a b"}]}, "models.0.name"),
        ({"models": [{"name": "é"}]}, "models.0.name"),
        ({"models": [{"name": ""}]}, "models.0.name"),
        ({"models": [{"name": "a", "device": "tpu"}]}, "models.0.device"),
        ({"models": [{"name": "a", "dtype": "int8"}]}, "models.0.dtype"),
        ({"models": [{"name": "a", "max_length": 31}]}, "models.0.max_length"),
        ({"models": [{"name": "a", "max_query_length": 0}]}, "models.0.max_query_length"),
        ({"models": [{"name": "a", "score": "cosine"}]}, "models.0.score"),
        ({"models": [{"name": "a", "instruction": ""}]}, "models.0.instruction"),
        ({"models": [{"name": "a", "quantization": "int4"}]}, "models.0.quantization"),
        ({"models": [{"name": "a", "prefix_reuse": "sometimes"}]}, "models.0.prefix_reuse"),
        ({"engine": {"max_wait": 0}}, "engine.max_wait"),
        ({"engine": {"max_wait": float("inf")}}, "engine.max_wait"),
        ({"engine": {"batch_tokens": 63}}, "engine.batch_tokens"),
    ],
)
def test_a_bad_value_is_refused_and_the_setting_named(table: dict[str, Any], named: str) -> None:
    with pytest.raises(BadSettings) as caught:
        Settings.parse(table)
    assert caught.value.message.startswith(f"{named}: ")


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(BadSettings, match=r"server\.port.*auth\.mode"):
        parse(server={"port": -1}, auth={"mode": "maybe"})


@pytest.mark.parametrize(
    "models",
    [
        [{"name": "a"}, {"name": "a"}],
        [{"name": "a", "aliases": ["a"]}],
        [{"name": "b", "aliases": ["a"]}, {"name": "a"}],
        [{"name": "b", "aliases": ["a"]}, {"name": "c", "aliases": ["a"]}],
        [{"name": "b", "aliases": ["a", "a"]}],
    ],
)
def test_a_name_means_one_model(models: list[dict[str, Any]]) -> None:
    with pytest.raises(BadSettings, match="the name 'a' is given twice"):
        parse(models=models)


def test_the_default_model_is_one_that_is_served() -> None:
    with pytest.raises(BadSettings, match=r"defaults\.model: no model is named 'b'"):
        parse(models=[{"name": "a"}], defaults={"model": "b"})
    with pytest.raises(BadSettings, match=r"defaults\.model"):
        parse(defaults={"model": "b"})
    assert parse(models=[{"name": "a", "aliases": ["b"]}], defaults={"model": "b"}).defaults.model == "b"
    assert parse(defaults={"model": "builtin"}).defaults.model == "builtin"


@pytest.mark.parametrize("key", ["", "1234567"])
def test_a_short_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(BadSettings) as caught:
        parse(api_key=key)
    assert caught.value.message == "api_key: a key has at least 8 characters"


@pytest.mark.parametrize("variable", ["RERANKD_SECRET_KEY", "RERANKD_ADMIN_KEY"])
def test_no_key_is_in_what_settings_print(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "canary" * 6 + "\n")
    settings = load_settings()
    key = getattr(settings, variable.removeprefix("RERANKD_").lower())
    assert key.get_secret_value() == "canary" * 6
    assert "canary" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_the_key_can_be_read_but_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKD_API_KEY", SECRET)
    settings = load_settings()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == SECRET
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in shown


def test_an_error_beside_the_key_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKD_API_KEY", SECRET)
    with pytest.raises(BadSettings) as caught:
        load_settings(written("[server]\nport = -1\n"))
    assert SECRET not in str(caught.value)


def test_settings_cannot_be_changed_once_they_are_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_was_named_must_be_there(name: str) -> None:
    with pytest.raises(BadSettings, match="There is no configuration file"):
        load_settings(Path(name))


@pytest.mark.parametrize("content", [b"server", b"[server\n", b'[server]\nhost = "\xff"\n', b"a = 1\na = 2\n"])
def test_a_file_that_is_no_toml_is_refused_by_name(content: bytes) -> None:
    Path("some.toml").write_bytes(content)
    with pytest.raises(BadSettings, match=r"^some\.toml is not TOML: "):
        load_settings(Path("some.toml"))


def test_a_model_comes_from_its_source_or_else_from_its_name() -> None:
    assert ModelSettings(name="fast", source="lexical").origin == "lexical"
    assert ModelSettings(name="BAAI/bge-reranker-v2-m3").origin == "BAAI/bge-reranker-v2-m3"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("lexical", "lexical"),
        ("BAAI/bge-reranker-v2-m3", "BAAI/bge-reranker-v2-m3"),
        ("modelscope:BAAI/bge", "modelscope:BAAI/bge"),
        ("/models/my model", "my_model"),
        ("./models/überraschung", "_berraschung"),
        ("~/models/mine", "mine"),
        ("../models/mine/", "mine"),
        ("/", "model"),
    ],
)
def test_a_source_alone_names_its_model_in_characters_that_a_name_may_have(source: str, name: str) -> None:
    assert name_of_source(source) == name
    assert parse(models=[{"name": name}]).models[0].name == name


def test_a_folder_here_is_known_for_one_without_a_slash_at_its_start() -> None:
    Path("models/mine").mkdir(parents=True)
    assert name_of_source("models/mine") == "mine"
    assert name_of_source("models/other") == "models/other"


TABLES: dict[str, type[Section]] = {"models": ModelSettings, "channels": ChannelSettings, "cascades": CascadeSettings}


def every_setting() -> list[str]:
    """`section.name` of each setting, `models.name` for those of a model, and `api_key`."""
    names = []
    for name, field in Settings.model_fields.items():
        section = TABLES.get(name) or field.annotation
        inner = section.model_fields if isinstance(section, type) and issubclass(section, Section) else None
        names.extend([name] if inner is None else [f"{name}.{setting}" for setting in inner])
    return names


@pytest.mark.parametrize("name", every_setting())
def test_every_setting_is_in_the_handbook(name: str) -> None:
    handbook = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert [line for line in handbook.splitlines() if line.startswith("|") and f"`{name}`" in line]


@pytest.mark.parametrize("section", Section.__subclasses__())
def test_every_setting_has_its_sentence(section: type[Section]) -> None:
    for name, field in section.model_fields.items():
        is_group = name in TABLES or isinstance(field.default, Section)
        assert is_group or (field.description or "").endswith("."), name


def test_an_address_that_is_none_is_told_as_one() -> None:
    channel = {"name": "c", "dialect": "jina", "base_url": "api.jina.ai", "models": {"m": "n"}}
    with pytest.raises(BadSettings, match=r"channels\.0\.base_url: must be a URL that begins with http"):
        Settings.parse({"channels": [channel]})
