"""The caps of the app, in one place. Each says so when it is hit, and nothing that was typed or run is lost."""

PROMPT_CHARACTERS = 20_000
LINK_CHARACTERS = 2_000  # a longer prompt stays out of the address: servers refuse longer ones
NEW_TOKENS = 256
CONCURRENT_RUNS = 4  # further ones wait their turn: all would get slower together
ATTENTION_WEIGHTS = 6_000_000  # recorded over all layers and heads; beyond, heads are computed one at a time
HEAD_TOKENS = 8_192  # up to which a head that was not recorded is computed
ROLLOUT_TOKENS = 1_024
EXPERIMENT_LOGITS = 2**25  # tokens x vocabulary of an experiment, whose distributions are compared: 134 MB a run
IMPORTANCE_TOKENS = 256  # of a text whose experts are all knocked out one by one
KEPT_EXPERIMENTS = 6  # of a session
UPLOAD_BYTES = 64 * 2**20
KEPT_TRACES = 32
KEPT_MODELS = 2
SPARED_CORES = 1  # a run leaves them to the server and to a browser on the same machine
