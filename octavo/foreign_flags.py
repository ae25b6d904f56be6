"""vLLM's server flags that are no fields of `ServerOptions`: accepted without effect, or refused by name.

A flag that becomes an option here loses its line here. Engine arguments have their table in `foreign_args.py`.
"""

from __future__ import annotations

from octavo.foreign_args import NO_MEDIA, NOTHING, ForeignArg, accepted, refused

FOREIGN_FLAGS: dict[str, ForeignArg] = {
    **accepted("the log's level is that of OCTAVO_LOG_LEVEL", "uvicorn_log_level"),
    **accepted(NO_MEDIA, "trust_request_mm_kwargs", switch=True),
    **accepted("GET /load always counts", "enable_server_load_tracking", switch=True),
    **accepted("the server publishes no API pages", "disable_fastapi_docs", switch=True),
    **accepted("headers are bounded by their size", "h11_max_header_count", "h11_max_incomplete_event_size"),
    **accepted("the server's process and the core's are always two", "disable_frontend_multiprocessing", switch=True),
    **refused("this version has no other fingerprint than version and configuration", "fingerprint_mode", only=(*NOTHING, "full")),
    **refused("this version has no middleware (put a proxy in front)", "middleware", only=(*NOTHING, []), many=True),
    **refused("this version has no splitting of rendering from generating", "enable_scale_out", "tokens_only", switch=True),
    **refused("this version has no gRPC server", "grpc", switch=True),
    **refused("this version has no gRPC server", "grpc_port"),
    **refused("this version has no client certificates that are optional (--ssl-ca-certs requires one)", "ssl_cert_reqs"),
}  # fmt: skip
"""By name, as fields are spelled."""
