"""Every setting: its name, its default and one sentence; from rerankd.toml and from RERANKD_* variables.

A variable is the section and the name: RERANKD_SERVER_PORT=9000 is `[server] port = 9000`. Variables win over the file. An
unknown name, in the file or in the environment, is an error at start-up: a mistyped limit must not mean no limit.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from rerankd.errors import BadSettings
from rerankd.setting_values import (
    MICROS,
    SQLITE,
    Amount,
    DatabaseUrl,
    Key,
    ModelName,
    Network,
    RedisUrl,
    SecretKey,
    Size,
)
from rerankd.types import BUILTIN

PREFIX = "RERANKD_"
REASONS = {
    "extra_forbidden": "is no setting of rerankd",
    "tuple_type": "must be a list",
    "model_type": "must be a table",
}
PATTERNS = {"device": "must be auto, cpu, cuda or cuda:N"}
"""What a text must be that has to match a pattern, by the setting's own name."""
URL_EXPECTED = "must be a URL that begins with http:// or https://"
DEFAULT_FILE = "rerankd.toml"
Source = Literal["default", "file", "environment", "command line"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Section):
    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 lets the system choose one.")
    deadline: float = Field(60.0, gt=0, le=3600, description="Seconds for one request, all of it.")
    max_body: Size = Field(32 * 2**20, description="The largest request body: bytes, or a size such as 32MiB.")
    max_documents: int = Field(10_000, ge=1, le=10**6, description="The most documents in one request.")
    receive_timeout: float = Field(
        20.0, gt=0, le=30, description="Seconds in which a request's head and body must have arrived."
    )
    database: DatabaseUrl = Field(
        SecretStr("sqlite:///rerankd.db"),
        description="Where keys, the ledger and stored channels are kept: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME.",
    )
    spool: Path | None = Field(
        None,
        description="The folder that holds the ledger's rows until they are in the database; "
        "beside SQLite's file FILE it is FILE-spool, else ./rerankd-spool.",
    )
    redis: RedisUrl | None = Field(
        None,
        description="A Redis server in which several processes share limits and scores, such as redis://localhost:6379/0.",
    )
    trusted_proxies: tuple[Network, ...] = Field(
        (), description="Proxies whose X-Forwarded-For says who asks; that of anybody else is not believed."
    )
    open_metrics: bool = Field(False, description="Whether /metrics is there for everybody who can reach the server.")
    strict: tuple[str, ...] = Field(
        (), description="Paths, such as /v2/rerank, on which a field that the format does not have is refused with 422."
    )

    @property
    def spool_folder(self) -> Path:
        """As it was chosen, or where it is by default."""
        url = self.database.get_secret_value()
        return self.spool or Path(f"{url.removeprefix(SQLITE)}-spool" if url.startswith(SQLITE) else "rerankd-spool")


class AuthSettings(Section):
    mode: Literal["auto", "required", "off"] = Field(
        "auto",
        description="auto: open on loopback while no key exists, else keys are required; required: always; off: never.",
    )


class LedgerSettings(Section):
    enabled: bool = Field(True, description="Whether each request is written down before it is answered.")
    retention_days: int = Field(
        400, ge=0, le=36500, description="Days after which rows are deleted, whose sums stay; 0 keeps them for good."
    )
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$", description="What prices are in.")


class PriceSettings(Section):
    per_million_tokens: Amount = Field(
        Decimal(0), description="What a million tokens cost, such as 0.02; cached ones are free."
    )
    per_thousand_searches: Amount = Field(
        Decimal(0), description="What a thousand searches cost, as Cohere counts them."
    )

    @property
    def micros(self) -> tuple[int, int]:
        """Both in millionths of the unit."""
        return int(self.per_million_tokens * MICROS), int(self.per_thousand_searches * MICROS)


class LimitSettings(Section):
    processes: int = Field(
        1, ge=1, le=1000, description="How many processes share the limits while Redis is away and has not said."
    )


class LogSettings(Section):
    format: Literal["text", "json"] = Field("text", description="How a line of the log is written.")


class TelemetrySettings(Section):
    otlp_endpoint: str | None = Field(
        None,
        repr=False,
        pattern=r"^https?://",
        description="Where traces go by OTLP over HTTP, such as http://localhost:4318.",
    )
    sample: float = Field(1.0, ge=0, le=1, description="The share of the requests that are traced.")


class ModelSettings(Section):
    name: ModelName = Field(description="The name that requests ask for, and that answers give.")
    source: str = Field(
        "", description="A folder, a Hugging Face id, modelscope:ID, builtin or lexical; by default the name itself."
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="The number format; auto takes what the processor is fast at."
    )
    max_length: int | None = Field(
        None, ge=32, le=2**20, description="Tokens of one sequence, where less than the model allows is wanted."
    )
    max_query_length: int | None = Field(
        None, ge=1, le=2**20, description="Tokens of a query, where another limit than the model's own is wanted."
    )
    score: Literal["auto", "probability", "logit"] = Field(
        "auto",
        description="auto: the model's own scale; probability: the sigmoid of its logit; logit: the logit as it is.",
    )
    instruction: str | None = Field(
        None, min_length=1, description="What the ranking follows where a request says nothing, if the model can."
    )
    quantization: Literal["none", "int8"] = Field(
        "none", description="int8: faster and less exact products of weights; see docs/performance.md."
    )
    prefix_reuse: bool = Field(
        True, description="Compute the part of a prompt that all documents of a request share only once."
    )
    aliases: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="Further names under which requests may ask for this model."
    )

    @property
    def origin(self) -> str:
        return self.source or self.name


class EngineSettings(Section):
    max_wait: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Seconds; a request that would wait longer, by the measured rate, is refused with 503.",
    )
    batch_tokens: int | None = Field(
        None,
        ge=64,
        le=2**20,
        description="Tokens computed at a time; None measures at load what the device is best at.",
    )


class ChannelSettings(Section):
    name: ModelName = Field(description="What the channel is called, in headers, lists and logs.")
    dialect: str = Field(description="The wire format that the upstream speaks; docs/dialects.md lists them.")
    base_url: str = Field(
        pattern=r"^https?://", description="Where the upstream is; the format's own path is added to it."
    )
    api_key_env: str | tuple[str, ...] = Field(
        (), description="The variable that holds the upstream's key, or several, which take turns."
    )
    models: dict[ModelName, str] = Field(
        min_length=1, description='Public names and the upstream\'s: {"bge" = "BAAI/bge-reranker-v2-m3"}.'
    )
    priority: int = Field(0, ge=-1000, le=1000, description="Channels of a higher priority are asked first.")
    weight: float = Field(1.0, gt=0, le=1000, description="The share of the requests among equals in priority.")
    headers: dict[str, str] = Field(default_factory=dict, repr=False, description="Further headers to send.")
    proxy: str | None = Field(None, repr=False, pattern=r"^https?://", description="An HTTP proxy to go through.")
    timeout: float = Field(30.0, gt=0, le=3600, description="Seconds for one call, all of it.")
    max_documents: int | None = Field(
        None, ge=1, description="The most documents that the upstream takes in one call; more are split."
    )
    max_tokens: int | None = Field(
        None, ge=1, description="The most tokens in one call, by our estimate; more are split."
    )
    listwise: bool = Field(False, description="Scores depend on the other documents: a request is never split.")
    score: Literal["probability", "logit", "cosine"] = Field(
        "probability", description="The scale of the upstream's scores, for the model list."
    )
    allow_private: bool = Field(False, description="Whether the upstream may be in a private network.")


class CascadeSettings(Section):
    name: ModelName = Field(description="The name that requests ask for.")
    first: str = Field(description="The cheap model, which sees all documents.")
    then: str = Field(description="The good model, which sees the best of them.")
    keep: int = Field(50, ge=1, le=10_000, description="How many the good model sees.")


class CacheSettings(Section):
    max_bytes: Size | Literal[0] = Field(
        64 * 2**20, description="Memory for scores that were computed before; 0 keeps none."
    )
    ttl: float = Field(3600.0, gt=0, le=30 * 86400, description="Seconds for which a remote channel's scores are kept.")


class DefaultSettings(Section):
    model: str | None = Field(None, description="What a request without `model` gets.")


class Settings(Section):
    """All of it. `parse` checks; the constructor is for values that are known to be right."""

    api_key: Key | None = Field(None, description="One static key that requests must bring, of at least 8 characters.")
    admin_key: Key | None = Field(None, description="The key of /admin, of at least 8 characters.")
    secret_key: SecretKey | None = Field(
        None,
        description="What the secrets of stored channels are sealed with; a random text of at least 32 characters.",
    )
    pepper: SecretKey | None = Field(
        None, description="What the hashes of keys are made with; without it one is made beside the database."
    )
    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    engine: EngineSettings = EngineSettings()
    models: tuple[ModelSettings, ...] = ()
    channels: tuple[ChannelSettings, ...] = ()
    cascades: tuple[CascadeSettings, ...] = ()
    fallback: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Models to ask where every channel of a model has failed, in order."
    )
    cache: CacheSettings = CacheSettings()
    limits: LimitSettings = LimitSettings()
    ledger: LedgerSettings = LedgerSettings()
    prices: dict[str, PriceSettings] = Field(
        default_factory=dict, description='By model: what it costs. [prices."bge"] per_million_tokens = 0.02.'
    )
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    defaults: DefaultSettings = DefaultSettings()

    @classmethod
    def parse(cls, table: dict[str, Any]) -> Settings:
        """Raises `BadSettings`, naming the setting."""
        try:
            settings = cls.model_validate(table)
        except ValidationError as cause:
            raise BadSettings(_explain(cause)) from None
        _check_names(settings)
        return settings


class _WithEnvironment(Settings, BaseSettings):
    """The same fields, with the environment read over what it is given."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="_", env_nested_max_split=1, extra="forbid", frozen=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def load_settings(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """The settings of the file `path`, or of ./rerankd.toml where there is one, under the environment and `overrides`.

    `overrides` are what the command line says, by section. Raises `BadSettings`.
    """
    table = _read(path or Path(DEFAULT_FILE), required=path is not None)
    _check_environment()
    try:
        known = _WithEnvironment(**table).model_dump(exclude_unset=True)
    except ValidationError as cause:
        raise BadSettings(_explain(cause)) from None
    except SettingsError as cause:
        raise BadSettings(f"{cause}; RERANKD_MODELS is a JSON list of objects") from None
    return Settings.parse(_merge(known, overrides or {}))


def sources(path: Path | None = None, overrides: dict[str, Any] | None = None) -> dict[str, Source]:
    """Where each setting comes from that `load_settings` finds given, by its name, such as server.port or models; what is
    not in it is at its default. Raises `BadSettings` where the file cannot be read.
    """
    table = _read(path or Path(DEFAULT_FILE), required=path is not None)
    environment = {name.upper().removeprefix(PREFIX) for name in os.environ if name.upper().startswith(PREFIX)}
    said = [name for name in names() if name.replace(".", "_").upper() in environment]
    found: dict[str, Source] = dict.fromkeys(_given(table), "file")
    found.update(dict.fromkeys(said, "environment"))
    found.update(dict.fromkeys(_given(overrides or {}), "command line"))
    return found


def _given(table: dict[str, Any]) -> list[str]:
    """The names of the settings that a table holds."""
    within = [name for name, value in table.items() if isinstance(value, dict) and _section(name) is not None]
    return [
        *(name for name in table if name not in within),
        *(f"{name}.{inner}" for name in within for inner in table[name]),
    ]


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    if not path.is_file():
        if required:
            raise BadSettings(f"There is no configuration file {path}.")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise BadSettings(f"{path} is not TOML: {cause}") from None
    except OSError as cause:
        raise BadSettings(f"{path} cannot be read: {cause.strerror}.") from None


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        merged[name] = _merge(merged.get(name, {}), value) if isinstance(value, dict) else value
    return merged


def _check_environment() -> None:
    known = set(variables())
    for name in os.environ:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise BadSettings(f"The variable {name} is no setting of rerankd; known are {', '.join(sorted(known))}.")


def variables() -> list[str]:
    """The names of all environment variables that set something."""
    return [PREFIX + name.replace(".", "_").upper() for name in names()]


def names() -> list[str]:
    """Of all settings, such as server.port."""
    listed: list[str] = []
    for name in Settings.model_fields:
        section = _section(name)
        listed.extend([name] if section is None else [f"{name}.{inner}" for inner in section.model_fields])
    return listed


def _section(name: str) -> type[Section] | None:
    kind = Settings.model_fields[name].annotation if name in Settings.model_fields else None
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _check_names(settings: Settings) -> None:
    seen: set[str] = set()
    for model in settings.models:
        for name in (model.name, *model.aliases):
            if name in seen:
                raise BadSettings(f"models: the name {name!r} is given twice.")
            seen.add(name)
    channels = [channel.name for channel in settings.channels]
    if len(set(channels)) < len(channels):
        raise BadSettings("channels: two of them have the same name.")
    seen |= {model for channel in settings.channels for model in channel.models}
    for cascade in settings.cascades:
        _check_known(f"cascades.{cascade.name}", (cascade.first, cascade.then), seen)
    for name, others in settings.fallback.items():
        _check_known("fallback", (name, *others), seen)
    seen |= {cascade.name for cascade in settings.cascades}
    default = settings.defaults.model
    if default is not None and default not in (seen or {BUILTIN}):
        raise BadSettings(f"defaults.model: no model is named {default!r}.")


def _check_known(where: str, names: Iterable[str], served: set[str]) -> None:
    for name in names:
        if name not in (served or {BUILTIN}):
            raise BadSettings(f"{where}: no model is named {name!r}.")


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in problem["loc"])
        lines.append(f"{where}: {_reason(problem['type'], problem['loc'], problem['msg'])}")
    return "; ".join(lines)


def _reason(kind: str, where: tuple[int | str, ...], message: str) -> str:
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(str(where[-1]), URL_EXPECTED)
    return REASONS.get(kind) or message.removeprefix("Value error, ")
