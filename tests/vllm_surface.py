"""vLLM 0.32's public surface by name, as its users' scripts and clients see it."""

from __future__ import annotations

from typing import Any

NAMES = [
    "LLM",
    "AsyncLLMEngine",
    "EngineArgs",
    "AsyncEngineArgs",
    "SamplingParams",
    "PoolingParams",
    "RequestOutput",
    "CompletionOutput",
    "PoolingRequestOutput",
    "PoolingOutput",
    "EmbeddingOutput",
    "EmbeddingRequestOutput",
    "ClassificationOutput",
    "ClassificationRequestOutput",
    "ScoringOutput",
    "ScoringRequestOutput",
    "PromptType",
    "TextPrompt",
    "TokensPrompt",
    "ModelRegistry",
    "LLMEngine",
    "FlatLogprobs",
    "LoRARequest",
    "BeamSearchParams",
    "StructuredOutputsParams",
    "RequestOutputKind",
]

LLM_ARGUMENTS: dict[str, Any] = {
    "runner": "auto", "convert": "auto", "tokenizer": None, "tokenizer_mode": "auto", "skip_tokenizer_init": False,
    "trust_remote_code": False, "allowed_local_media_path": "", "allowed_media_domains": None, "tensor_parallel_size": 1,
    "dtype": "auto", "quantization": None, "revision": None, "tokenizer_revision": None, "chat_template": None, "seed": 0,
    "gpu_memory_utilization": 0.92, "cpu_offload_gb": 0, "offload_group_size": 0, "offload_num_in_group": 1,
    "offload_prefetch_step": 1, "offload_params": None, "enforce_eager": False, "enable_return_routed_experts": False,
    "return_sampling_mask": False, "disable_custom_all_reduce": False, "hf_token": None, "hf_overrides": {},
    "mm_processor_kwargs": None, "pooler_config": None, "structured_outputs_config": None, "profiler_config": None,
    "attention_config": None, "compilation_config": None, "quantization_config": None, "kv_cache_memory_bytes": None,
    "logits_processors": None, "spec_method": None, "spec_model": None, "spec_tokens": None, "max_model_len": None,
    "max_num_seqs": None, "enable_lora": False, "limit_mm_per_prompt": {}, "io_processor_plugin": None,
    "disable_log_stats": True, "data_parallel_size": 1, "attention_backend": None, "optimization_level": 2,
}  # fmt: skip
"""Arguments of `LLM(...)` and their defaults."""

ASKING: dict[str, Any] = {
    "tensor_parallel_size": 2, "cpu_offload_gb": 4, "offload_group_size": 2, "offload_num_in_group": 2, "offload_prefetch_step": 2, "offload_params": {"x"},
    "enable_return_routed_experts": True, "return_sampling_mask": True,
    "profiler_config": {"profiler": "torch"}, "quantization_config": {"bits": 4}, "logits_processors": ["a:B"],
    "spec_method": "ngram", "spec_model": "m", "spec_tokens": 3, "enable_lora": True,
    "data_parallel_size": 2,
}  # fmt: skip
"""Values of some that ask for what is not here."""

LLM_METHODS = {
    "from_engine_args": "engine_args",
    "generate": "prompts sampling_params use_tqdm lora_request priority tokenization_kwargs mm_processor_kwargs",
    "chat": (
        "messages sampling_params use_tqdm lora_request priority chat_template chat_template_content_format "
        "add_generation_prompt continue_final_message tools chat_template_kwargs tokenization_kwargs mm_processor_kwargs"
    ),
    "enqueue": "prompts sampling_params use_tqdm lora_request priority tokenization_kwargs",
    "enqueue_chat": "messages sampling_params use_tqdm priority",
    "wait_for_completion": "use_tqdm",
    "encode": "prompts pooling_params use_tqdm lora_request pooling_task tokenization_kwargs",
    "embed": "prompts pooling_params", "classify": "prompts pooling_params", "reward": "prompts pooling_params",
    "score": "data_1 data_2 pooling_params", "beam_search": "", "apply_model": "",
    "get_tokenizer": "", "get_default_sampling_params": "", "get_world_size": "include_dp",
    "start_profile": "profile_prefix", "stop_profile": "",
    "reset_prefix_cache": "reset_running_requests reset_connector", "reset_mm_cache": "",
    "sleep": "level mode", "wake_up": "tags", "release_kv_cache_memory": "", "get_metrics": "",
    "collective_rpc": "method timeout args kwargs",
    "init_weight_transfer_engine": "", "start_weight_update": "", "start_draft_weight_update": "", "update_weights": "",
    "finish_weight_update": "", "update_weight_version": "", "get_weight_version": "",
}  # fmt: skip

ASYNC_LLM_MEMBERS = [
    "from_engine_args",
    "from_vllm_config",
    "generate",
    "encode",
    "add_request",
    "abort",
    "check_admission",
    "pause_generation",
    "resume_generation",
    "is_paused",
    "check_health",
    "errored",
    "dead_error",
    "is_running",
    "is_stopped",
    "shutdown",
    "reset_mm_cache",
    "reset_prefix_cache",
    "reset_encoder_cache",
    "sleep",
    "wake_up",
    "is_sleeping",
    "release_kv_cache_memory",
    "add_lora",
    "remove_lora",
    "list_loras",
    "pin_lora",
    "collective_rpc",
    "scale_elastic_ep",
    "get_supported_tasks",
    "do_log_stats",
    "start_profile",
    "stop_profile",
    "init_weight_transfer_engine",
    "start_weight_update",
    "update_weights",
    "finish_weight_update",
    "update_weight_version",
    "get_weight_version",
    "get_tokenizer",
]

GENERATE_ARGUMENTS: dict[str, Any] = {
    "prompt_text": "Hi", "lora_request": object(), "tokenization_kwargs": {"add_special_tokens": False}, "trace_headers": {},
    "priority": 1, "data_parallel_rank": 1, "session_id": "s", "kv_hints": {}, "reasoning_ended": True,
    "reasoning_parser_kwargs": {},
}  # fmt: skip
"""Keyword arguments of `AsyncLLM.generate`, with values that ask for something."""

LLM_ENGINE_MEMBERS = [
    "from_engine_args",
    "add_request",
    "step",
    "has_unfinished_requests",
    "get_num_unfinished_requests",
    "abort_request",
    "get_tokenizer",
    "get_metrics",
    "do_log_stats",
    "reset_prefix_cache",
    "reset_mm_cache",
    "reset_encoder_cache",
    "sleep",
    "wake_up",
    "is_sleeping",
    "start_profile",
    "stop_profile",
    "collective_rpc",
    "apply_model",
    "add_lora",
    "remove_lora",
    "list_loras",
    "pin_lora",
    "get_supported_tasks",
]

SAMPLING_FIELDS: dict[str, tuple[Any, Any]] = {
    "n": (1, 2), "presence_penalty": (0.0, 1.0), "frequency_penalty": (0.0, 1.0), "repetition_penalty": (1.0, 1.1),
    "temperature": (1.0, 0.5), "top_p": (1.0, 0.5), "top_k": (0, 5), "min_p": (0.0, 0.1), "seed": (None, 3), "stop": (None, ["x"]),
    "stop_token_ids": (None, [5]), "ignore_eos": (False, True), "max_tokens": (16, 5), "min_tokens": (0, 2), "logprobs": (None, 2),
    "prompt_logprobs": (None, 2), "prompt_logprob_token_ids": (None, [[1]]), "prompt_logprob_start": (None, 1),
    "logprob_token_ids": (None, [1, 2]), "flat_logprobs": (False, True), "detokenize": (True, False),
    "skip_special_tokens": (True, False), "spaces_between_special_tokens": (True, False),
    "include_stop_str_in_output": (False, True), "output_kind": (0, 2), "stream_interval": (None, 2), "skip_clone": (False, True),
    "structured_outputs": (None, {"json_object": True}), "logit_bias": (None, {5: 1.0}), "allowed_token_ids": (None, [5, 6]),
    "bad_words": (None, ["bad"]), "extra_args": (None, {"x": 1}), "skip_reading_prefix_cache": (None, True),
    "thinking_token_budget": (None, 5), "repetition_detection": (None, None), "routed_experts_prompt_start": (0, 1),
    "trace_decode_token_ids": (None, [1]), "watermarking": (None, {}),
}  # fmt: skip
"""Field -> (default, a value that asks for something)."""

REMOVED_SAMPLING_FIELDS = [
    "best_of",
    "use_beam_search",
    "length_penalty",
    "early_stopping",
    "logits_processors",
]

REQUEST_OUTPUT = [
    "request_id",
    "prompt",
    "prompt_token_ids",
    "prompt_logprobs",
    "outputs",
    "finished",
    "metrics",
    "lora_request",
    "encoder_prompt",
    "encoder_prompt_token_ids",
    "num_cached_tokens",
    "num_cache_creation_tokens",
    "prompt_token_id_logprobs",
    "kv_transfer_params",
    "ec_transfer_params",
    "add",
]
COMPLETION_OUTPUT = [
    "index",
    "text",
    "token_ids",
    "cumulative_logprob",
    "logprobs",
    "routed_experts",
    "finish_reason",
    "stop_reason",
    "lora_request",
    "sampling_mask",
    "spec_decode_metrics",
    "weight_versions",
    "finished",
]
REQUEST_METRICS = [
    "num_generation_tokens",
    "num_preemptions",
    "arrival_time",
    "queued_ts",
    "scheduled_ts",
    "first_token_ts",
    "last_token_ts",
    "first_token_latency",
    "is_corrupted",
]

PROMPT_KEYS: dict[str, Any] = {
    "prompt": "Hi", "prompt_token_ids": [5], "token_type_ids": [0], "prompt_token_offsets": [0], "prompt_embeds": [[0.0]],
    "prompt_is_token_ids": [True], "encoder_prompt": "x", "decoder_prompt": "x", "data": {}, "data_format": "x",
    "multi_modal_data": {"image": None}, "mm_processor_kwargs": {}, "media_io_kwargs": {}, "multi_modal_uuids": {},
    "cache_salt": "salt",
}  # fmt: skip

ROUTES = """
GET /health; GET /ping; POST /ping; GET /version; GET /load; GET /kv_event_sources; GET /metrics; GET /v1/models; POST /tokenize;
POST /detokenize; POST /invocations; GET /docs; GET /redoc; GET /openapi.json; POST /v1/chat/completions;
POST /v1/chat/completions/batch; POST /v1/completions; POST /v1/responses; GET /v1/responses/resp_1;
POST /v1/responses/resp_1/cancel; POST /v1/messages; POST /v1/messages/count_tokens; POST /cohere/v2/chat;
POST /generative_scoring; POST /v1/systemone; POST /v1/audio/transcriptions; POST /v1/audio/translations; GET /v1/realtime;
POST /v1/embeddings; POST /v2/embed; POST /pooling; POST /classify; POST /score; POST /v1/score; POST /rerank; POST /v1/rerank;
POST /v2/rerank; POST /v1/load_lora_adapter; POST /v1/unload_lora_adapter; POST /start_profile; POST /stop_profile;
POST /scale_elastic_ep; POST /is_scaling_elastic_ep; POST /v1/chat/completions/render; POST /v1/completions/render;
POST /v1/messages/render; POST /v1/responses/render; POST /v1/chat/completions/derender; POST /v1/completions/derender;
POST /inference/v1/generate; POST /inference/v1/abort_requests; POST /reset_prefix_cache; POST /reset_mm_cache;
POST /reset_encoder_cache; POST /sleep; POST /wake_up; GET /is_sleeping; POST /release_kv_cache_memory; POST /collective_rpc;
GET /server_info; POST /pause; POST /resume; GET /is_paused; POST /abort_requests; GET /weight_info; POST /weight_checker;
POST /init_weight_transfer_engine; POST /update_weights; GET /get_world_size; POST /fault_tolerance/apply;
GET /fault_tolerance/status; POST /generate
"""

SHARED_FIELDS: dict[str, tuple[Any, Any]] = {
    "model": ("", "tiny"), "frequency_penalty": (0, 0.5), "logit_bias": (None, {"5": 1}), "max_tokens": (None, 4), "n": (1, 2),
    "presence_penalty": (0, 0.5), "response_format": ({"type": "text"}, {"type": "json_object"}), "seed": (None, 3),
    "stop": ([], ["x"]), "stream": (False, False), "stream_options": (None, None), "temperature": (None, 0.5), "top_p": (None, 0.5),
    "user": (None, "me"), "use_beam_search": (False, True), "top_k": (None, 5), "min_p": (None, 0.1),
    "repetition_penalty": (None, 1.1), "length_penalty": (1.0, 0.5), "stop_token_ids": ([], [5]),
    "include_stop_str_in_output": (False, True), "ignore_eos": (False, True), "min_tokens": (0, 1),
    "skip_special_tokens": (True, False), "spaces_between_special_tokens": (True, False), "truncate_prompt_tokens": (None, 3),
    "truncation_side": (None, "left"), "prompt_logprobs": (None, 1), "logprob_token_ids": (None, [5]),
    "allowed_token_ids": (None, [5]), "bad_words": ([], ["bad"]), "echo": (False, True), "structured_outputs": (None, {"regex": "x"}),
    "priority": (0, 1), "request_id": ("abc", "abc"), "session_id": (None, "s"), "cache_salt": (None, "salt"),
    "return_tokens_as_token_ids": (None, True), "return_token_ids": (None, True), "routed_experts_prompt_start": (0, 1),
    "kv_transfer_params": (None, {"x": 1}), "ec_transfer_params": (None, {"x": 1}), "vllm_xargs": (None, {"x": 1}),
    "repetition_detection": (None, {"max_pattern_size": 4, "min_count": 3}), "stream_interval": (None, 2),
    "watermarking": (None, {"x": 1}), "thinking_token_budget": (None, 5), "service_tier": (None, "auto"),
}  # fmt: skip
"""Field of a body -> (its default, a value that asks for something)."""

CHAT_FIELDS: dict[str, tuple[Any, Any]] = {
    **SHARED_FIELDS, "logprobs": (False, True), "top_logprobs": (0, 0), "max_completion_tokens": (None, 4), "tools": (None, None),
    "tool_choice": ("none", "none"), "parallel_tool_calls": (True, False), "reasoning_effort": (None, "low"),
    "add_generation_prompt": (True, False), "continue_final_message": (False, False), "add_special_tokens": (False, True),
    "documents": (None, [{"text": "x"}]), "chat_template": (None, "x"), "chat_template_kwargs": (None, {"x": 1}),
    "media_io_kwargs": (None, {"x": 1}), "mm_processor_kwargs": (None, {"x": 1}), "return_prompt_text": (None, True),
    "return_token_offsets": (False, True), "mm_payload": ("tensors", "none"), "include_reasoning": (True, False),
}  # fmt: skip

COMPLETION_FIELDS: dict[str, tuple[Any, Any]] = {
    **SHARED_FIELDS, "logprobs": (None, 1), "suffix": (None, "x"), "add_special_tokens": (True, False), "prompt_embeds": (None, "x"),
    "best_of": (None, 2),
}  # fmt: skip

IGNORED_GUIDES = ["guided_json", "guided_regex", "guided_choice", "guided_grammar"]
"""Fields of old clients that vLLM answers 200 without honouring."""

CHAT_ANSWER = {
    "": (
        "id object created model choices service_tier system_fingerprint usage prompt_logprobs prompt_token_ids prompt_text "
        "kv_transfer_params ec_transfer_params metrics"
    ),
    "choice": "index message logprobs finish_reason stop_reason token_ids routed_experts",
    "message": "role content refusal annotations audio function_call reasoning",
}
COMPLETION_ANSWER = {
    "": "id object created model choices usage system_fingerprint kv_transfer_params ec_transfer_params metrics",
    "choice": "index text logprobs finish_reason stop_reason token_ids prompt_logprobs prompt_token_ids routed_experts",
}
METRICS_OF_AN_ANSWER = [
    "time_to_first_token_ms",
    "generation_time_ms",
    "queue_time_ms",
    "mean_itl_ms",
    "tokens_per_second",
    "speculative_decoding",
]
USAGE = ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"]
PROMPT_DETAILS = ["cached_tokens", "created_cache_tokens", "multimodal_tokens"]
MODEL_CARD = ["id", "object", "created", "owned_by", "root", "parent", "max_model_len", "permission"]

METRICS = [
    "num_requests_running",
    "num_requests_waiting",
    "num_requests_waiting_by_reason",
    "engine_sleep_state",
    "kv_cache_usage_perc",
    "prefix_cache_queries",
    "prefix_cache_hits",
    "external_prefix_cache_queries",
    "external_prefix_cache_hits",
    "mm_cache_queries",
    "mm_cache_hits",
    "num_preemptions",
    "prompt_tokens",
    "prompt_tokens_cached",
    "generation_tokens",
    "request_success",
    "admission_rejections",
    "request_prompt_tokens",
    "request_generation_tokens",
    "iteration_tokens_total",
    "request_params_n",
    "request_params_max_tokens",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_inference_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_num_preemptions",
    "kv_block_lifetime_seconds",
    "kv_block_idle_before_evict_seconds",
    "kv_block_reuse_gap_seconds",
    "lora_requests_info",
    "spec_decode_num_drafts",
    "spec_decode_num_draft_tokens",
    "spec_decode_num_accepted_tokens",
    "spec_decode_num_accepted_tokens_per_pos",
    "cache_config_info",
]

SERVE_FLAGS = """
model runner convert tokenizer tokenizer-mode tokenizer-revision revision code-revision skip-tokenizer-init trust-remote-code
dtype seed max-model-len served-model-name hf-config-path hf-token hf-overrides config-format load-format download-dir
model-impl quantization allow-deprecated-quantization enforce-eager max-logprobs logprobs-mode generation-config
override-generation-config logits-processors pooler-config io-processor-plugin enable-prompt-embeds enable-sleep-mode
disable-sliding-window allowed-local-media-path allowed-media-domains renderer-num-workers gpu-memory-utilization
device-memory-utilization kv-cache-memory-bytes block-size num-gpu-blocks-override kv-cache-dtype enable-prefix-caching
prefix-caching-hash-algo cpu-offload-gb kv-offloading-size kv-offloading-backend kv-transfer-config kv-events-config watermark
max-num-seqs max-num-batched-tokens max-num-scheduled-tokens max-num-queued-reqs max-num-queued-tokens enable-chunked-prefill
long-prefill-token-threshold scheduling-policy async-scheduling stream-interval disable-chunked-mm-input scheduler-cls
disable-hybrid-kv-cache-manager tensor-parallel-size pipeline-parallel-size data-parallel-size data-parallel-size-local
data-parallel-start-rank data-parallel-rank data-parallel-address data-parallel-rpc-port data-parallel-backend
data-parallel-external-lb data-parallel-hybrid-lb decode-context-parallel-size prefill-context-parallel-size
enable-expert-parallel all2all-backend enable-eplb eplb-config distributed-executor-backend nnodes node-rank master-addr
master-port disable-custom-all-reduce max-parallel-loading-workers worker-cls worker-extension-cls numa-bind headless
api-server-count limit-mm-per-prompt mm-processor-kwargs media-io-kwargs enable-mm-embeds mm-processor-cache-gb
mm-processor-cache-type mm-shm-cache-max-object-size-mb mm-hasher-algorithm mm-encoder-tp-mode mm-encoder-only
language-model-only skip-mm-profiling interleave-mm-strings video-pruning-rate enable-lora lora-modules max-lora-rank max-loras
max-cpu-loras lora-dtype lora-target-modules fully-sharded-loras default-mm-loras enable-tower-connector-lora
speculative-config spec-method spec-model spec-tokens structured-outputs-config reasoning-parser reasoning-parser-plugin
compilation-config optimization-level cudagraph-capture-sizes max-cudagraph-capture-size attention-backend performance-mode
moe-backend linear-backend kernel-config attention-config profiler-config host port uds api-key allowed-origins allowed-methods
allowed-headers root-path middleware ssl-keyfile ssl-certfile ssl-ca-certs uvicorn-log-level chat-template
chat-template-content-format default-chat-template-kwargs trust-request-chat-template trust-request-mm-kwargs response-role
enable-auto-tool-choice tool-call-parser tool-parser-plugin tool-server return-tokens-as-token-ids
enable-prompt-tokens-details enable-force-include-usage enable-per-request-metrics enable-request-id-headers
enable-server-load-tracking enable-tokenizer-info-endpoint enable-scale-out tokens-only enable-log-requests enable-log-outputs
max-log-len disable-log-stats disable-fastapi-docs disable-uvicorn-access-log sse-keep-alive-interval fingerprint-mode
h11-max-header-count shutdown-timeout grpc grpc-port otlp-traces-endpoint config
"""
"""Flags of `vllm serve` 0.32, without their dashes."""

OLD_SERVE_FLAGS = """
task num-scheduler-steps multi-step-stream-outputs disable-async-output-proc swap-space speculative-model
num-speculative-tokens speculative-draft-tensor-parallel-size use-v2-block-manager guided-decoding-backend
"""
"""Flags of version 0.6.3 that 0.32 has no more."""
SHORT_SERVE_FLAGS = "-q -tp -pp -dp -dcp -pcp -ep -sc -cc -O"
