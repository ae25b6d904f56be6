"""vLLM's server flags that are no fields of `ServerOptions`: accepted without effect, or refused by name.

A flag that becomes an option here loses its line here. Engine arguments have their table in `foreign_args.py`.
"""

from __future__ import annotations

from octavo.config.foreign_args import NO_MEDIA, NOTHING, ForeignArg, accepted, refused

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

_SERVED = """
    model tokenizer tokenizer-revision revision skip-tokenizer-init dtype seed max-model-len served-model-name hf-token
    hf-overrides load-format download-dir quantization max-logprobs logprobs-mode generation-config override-generation-config
    gpu-memory-utilization device-memory-utilization kv-cache-memory-bytes block-size num-gpu-blocks-override kv-cache-dtype
    enable-prefix-caching max-num-seqs max-num-batched-tokens max-num-queued-reqs max-num-queued-tokens enable-chunked-prefill
    long-prefill-token-threshold scheduling-policy async-scheduling stream-interval distributed-executor-backend host port uds
    api-key allowed-origins allowed-methods allowed-headers root-path ssl-keyfile ssl-certfile ssl-ca-certs chat-template
    chat-template-content-format default-chat-template-kwargs trust-request-chat-template response-role
    return-tokens-as-token-ids enable-prompt-tokens-details enable-force-include-usage enable-per-request-metrics
    enable-request-id-headers enable-tokenizer-info-endpoint disable-log-stats disable-uvicorn-access-log
    sse-keep-alive-interval shutdown-timeout config io-processor-plugin runner convert task pooler-config
"""
SERVED_FLAGS = tuple(_SERVED.split())
"""vLLM's flags that do here what they do there."""
