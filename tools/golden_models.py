"""Small models of every family: a module of PyTorch or transformers, its inputs, and our names of its parameters.

Each gives `input.{name}`, `param.{name}`, `grad.{name}` and `loss`; the sizes stand again in `models.rs` beside the goldens.
"""

import torch
import torch.nn.functional as F
import transformers as hf
from torch import nn

B, S, VOCAB = 2, 10, 37
IGNORED = -100
SIZES = dict(hidden_size=16, num_attention_heads=4, num_hidden_layers=2, intermediate_size=24, vocab_size=VOCAB,
             max_position_embeddings=32)
ROPE = {"rope_type": "default", "rope_theta": 10000.0}


class Model:
    def __init__(self, name, seed):
        self.name = name
        self.random = torch.Generator().manual_seed(seed)

    def ids(self, *shape, below=VOCAB, least=0):
        return torch.randint(least, below, shape, generator=self.random)

    def floats(self, *shape):
        return torch.randn(*shape, generator=self.random, dtype=torch.float64).float().double()

    def fill(self, module):
        """Parameters that f32 holds; norms, biases and tables are not left at zeros and ones."""
        with torch.no_grad():
            for parameter in module.parameters():
                noise = torch.randn(parameter.shape, generator=self.random, dtype=torch.float64)
                scale = 0.1 if parameter.dim() == 1 else max(0.1, parameter[0].numel() ** -0.5)
                start = parameter if parameter.dim() == 1 else torch.zeros_like(parameter)
                parameter.copy_((start + scale * noise).float().double())
        return module.double().train()

    def result(self, module, inputs, loss, rename=lambda name, tensor: [(name, tensor)], metadata=None):
        loss.backward()
        tensors = {f"input.{name}": value for name, value in inputs.items()} | {"loss": loss}
        for name, parameter in module.named_parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            tensors |= {f"param.{ours}": part for ours, part in rename(name, parameter)}
            tensors |= {f"grad.{ours}": part for ours, part in rename(name, gradient)}
        return self.name, tensors, metadata or {}


def next_token_loss(logits, targets):
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED)


def decoder(name, module, seed, rename=lambda name, tensor: [(name, tensor)]):
    model = Model(name, seed)
    model.fill(module)
    inputs = {"tokens": model.ids(B, S), "targets": model.ids(B, S)}
    loss = next_token_loss(module(input_ids=inputs["tokens"], use_cache=False).logits, inputs["targets"])
    return model.result(module, inputs, loss, rename)


def without(prefix):
    return lambda name, tensor: [(name.removeprefix(prefix), tensor)]


def mixtral_names(name, tensor):
    """transformers 5 packs the experts; checkpoints and we have each expert's matrices apart."""
    name = name.replace(".mlp.", ".block_sparse_moe.")
    if name.endswith("experts.gate_up_proj"):
        base = name.removesuffix("gate_up_proj")
        halves = [part.chunk(2, 0) for part in tensor]
        return [(f"{base}{e}.{part}.weight", halves[e][i]) for e in range(len(halves)) for i, part in enumerate(["w1", "w3"])]
    if name.endswith("experts.down_proj"):
        base = name.removesuffix("down_proj")
        return [(f"{base}{e}.w2.weight", part) for e, part in enumerate(tensor)]
    return [(name, tensor)]


def decoders():
    eager = dict(attn_implementation="eager")
    gpt = dict(vocab_size=VOCAB, n_positions=32, n_embd=16, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    yield decoder("gpt2", hf.GPT2LMHeadModel(hf.GPT2Config(**gpt, **eager)), 1, without("transformer."))
    yield decoder_of_old("gpt1", hf.OpenAIGPTLMHeadModel(hf.OpenAIGPTConfig(**gpt, afn="gelu", **eager)), 2)
    llama3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
              "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    grouped = dict(num_key_value_heads=2, tie_word_embeddings=False, **SIZES, **eager)
    yield decoder("llama", hf.LlamaForCausalLM(hf.LlamaConfig(rope_parameters=llama3, **grouped)), 3)
    yield decoder("mistral", hf.MistralForCausalLM(hf.MistralConfig(rope_parameters=ROPE, sliding_window=4, **grouped)), 4)
    mixtral = hf.MixtralForCausalLM(hf.MixtralConfig(
        rope_parameters=ROPE, num_local_experts=4, num_experts_per_tok=2, sliding_window=None, **grouped))
    mixtral.set_experts_implementation("eager")
    yield decoder("mixtral", mixtral, 5, mixtral_names)
    yield decoder("qwen2", hf.Qwen2ForCausalLM(hf.Qwen2Config(rope_parameters=ROPE, **grouped)), 6)
    yield decoder("qwen3", hf.Qwen3ForCausalLM(hf.Qwen3Config(rope_parameters=ROPE, head_dim=8, **grouped)), 7)
    tied = {**grouped, "tie_word_embeddings": True, "num_key_value_heads": 1}
    yield decoder("gemma", hf.GemmaForCausalLM(hf.GemmaConfig(rope_parameters=ROPE, head_dim=8, **tied)), 8)
    partial = {**ROPE, "partial_rotary_factor": 0.5}
    yield decoder("phi", hf.PhiForCausalLM(hf.PhiConfig(rope_parameters=partial, **{**grouped, "num_key_value_heads": 4})), 9)
    neox = {**SIZES, "tie_word_embeddings": False}
    yield decoder("gpt_neox", hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(rope_parameters=partial, **neox, **eager)), 10,
                  lambda name, tensor: [(name.replace("lm_head.", "embed_out."), tensor)])
    falcon = dict(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, ffn_hidden_size=64, bias=False,
                  rope_parameters=ROPE, max_position_embeddings=32)
    yield decoder("falcon", hf.FalconForCausalLM(hf.FalconConfig(multi_query=True, parallel_attn=True, **falcon, **eager)), 11)
    yield decoder("opt", hf.OPTForCausalLM(hf.OPTConfig(
        vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, ffn_dim=24, max_position_embeddings=32,
        word_embed_proj_dim=16, dropout=0.0, **eager)), 12)
    mpt = dict(vocab_size=VOCAB, d_model=16, n_layers=2, n_heads=4, max_seq_len=32)
    yield decoder("mpt", hf.MptForCausalLM(hf.MptConfig(**mpt, **eager)), 13)


def decoder_of_old(name, module, seed):
    """GPT-1, whose class takes no cache."""
    model = Model(name, seed)
    model.fill(module)
    inputs = {"tokens": model.ids(B, S), "targets": model.ids(B, S)}
    loss = next_token_loss(module(input_ids=inputs["tokens"]).logits, inputs["targets"])
    return model.result(module, inputs, loss, without("transformer."))


def encoders():
    quiet = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager")
    s, counted = 14, 2
    for seed, name, module in (
        (21, "bert", hf.BertForMaskedLM(hf.BertConfig(**SIZES, **quiet))),
        (22, "roberta", hf.RobertaForMaskedLM(hf.RobertaConfig(type_vocab_size=1, **SIZES, **quiet))),
    ):
        model = Model(name, seed)
        model.fill(module)
        targets = torch.full((B, s), IGNORED)
        targets[:, [3, 8]] = model.ids(B, counted)
        # Row 1 is RoBERTa's padding, which moves the positions.
        inputs = {"tokens": model.ids(B, s, least=2), "targets": targets}
        types = {}
        if name == "bert":
            inputs["token_types"] = model.ids(B, s, below=2)
            types = {"token_type_ids": inputs["token_types"]}
        logits = module(input_ids=inputs["tokens"], **types).logits
        yield model.result(module, inputs, next_token_loss(logits, targets), rename_predictions)


def rename_predictions(name, tensor):
    return [(name.replace("cls.predictions.decoder.bias", "cls.predictions.bias").replace("lm_head.decoder.bias", "lm_head.bias"), tensor)]


def t5():
    sizes = dict(vocab_size=VOCAB, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=2, num_heads=4,
                 relative_attention_num_buckets=8, relative_attention_max_distance=12, dropout_rate=0.0)
    for seed, name, more in (
        (31, "t5", dict(feed_forward_proj="relu", tie_word_embeddings=True)),
        (32, "t5-gated", dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    ):
        model, config = Model(name, seed), hf.T5Config(**sizes, **more)
        # transformers 5 ties the head whatever it is told; checkpoints of version 1.1 have one of their own.
        config.tie_word_embeddings = more["tie_word_embeddings"]
        module = hf.T5ForConditionalGeneration(config)
        module.set_input_embeddings(module.shared)
        model.fill(module)
        inputs = {"tokens": model.ids(B, S), "decoder_tokens": model.ids(B, 7), "targets": model.ids(B, 7)}
        logits = module(input_ids=inputs["tokens"], decoder_input_ids=inputs["decoder_tokens"], use_cache=False).logits
        yield model.result(module, inputs, next_token_loss(logits, inputs["targets"]))


class Recurrent(nn.Module):
    """The zoo's networks: embedding, layers, head."""

    def __init__(self, kind, layers, hidden=12, words=8, **options):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, words)
        self.rnn = kind(words, hidden, num_layers=layers, batch_first=True, **options)
        width = (options.get("proj_size", 0) or hidden) * (2 if options.get("bidirectional") else 1)
        self.head = nn.Linear(width, VOCAB)

    def forward(self, tokens):
        return self.rnn(self.embedding(tokens))[0]


class Translator(nn.Module):
    """An encoder whose last states a decoder starts from."""

    def __init__(self, hidden=12, words=8, layers=2):
        super().__init__()
        self.encoder = nn.ModuleDict({"embedding": nn.Embedding(VOCAB, words), "rnn": nn.LSTM(words, hidden, layers, batch_first=True)})
        self.decoder = nn.ModuleDict({"embedding": nn.Embedding(VOCAB, words), "rnn": nn.LSTM(words, hidden, layers, batch_first=True)})
        self.head = nn.Linear(hidden, VOCAB)

    def forward(self, tokens, decoder_tokens):
        _, state = self.encoder["rnn"](self.encoder["embedding"](tokens))
        return self.head(self.decoder["rnn"](self.decoder["embedding"](decoder_tokens), state)[0])


class OneToMany(nn.Module):
    """The first step sees the input; every further one the topmost hidden state before."""

    def __init__(self, inputs=8, hidden=12, layers=2):
        super().__init__()
        self.entry = nn.Linear(inputs, hidden)
        self.rnn = nn.LSTM(hidden, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, VOCAB)

    def forward(self, features, steps):
        x, state, outputs = self.entry(features)[:, None], None, []
        for _ in range(steps):
            x, state = self.rnn(x, state)
            outputs.append(x)
        return self.head(torch.cat(outputs, 1))


class OneToOne(nn.Module):
    def __init__(self, inputs=8, hidden=12):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)])
        self.head = nn.Linear(hidden, VOCAB)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


def recurrent():
    def sequence(name, seed, module, classify=False):
        model = Model(name, seed)
        model.fill(module)
        inputs = {"tokens": model.ids(B, S), "targets": model.ids(B) if classify else model.ids(B, S)}
        y = module(inputs["tokens"])
        loss = next_token_loss(module.head(y[:, -1] if classify else y), inputs["targets"])
        return model.result(module, inputs, loss)

    yield sequence("rnn", 41, Recurrent(nn.RNN, 1))
    yield sequence("rnn-many-to-one", 42, Recurrent(nn.RNN, 2), classify=True)
    yield sequence("gru", 43, Recurrent(nn.GRU, 2))
    yield sequence("lstm", 44, Recurrent(nn.LSTM, 2))
    yield sequence("lstm-bidirectional", 45, Recurrent(nn.LSTM, 2, bidirectional=True))
    yield sequence("lstm-projected", 46, Recurrent(nn.LSTM, 2, proj_size=6))
    model = Model("lstm-encoder-decoder", 47)
    module = model.fill(Translator())
    inputs = {"tokens": model.ids(B, S), "decoder_tokens": model.ids(B, S), "targets": model.ids(B, S)}
    yield model.result(module, inputs, next_token_loss(module(inputs["tokens"], inputs["decoder_tokens"]), inputs["targets"]))
    model = Model("lstm-one-to-many", 48)
    module = model.fill(OneToMany())
    inputs = {"features": model.floats(B, 8), "targets": model.ids(B, 6)}
    yield model.result(module, inputs, next_token_loss(module(inputs["features"], 6), inputs["targets"]))
    model = Model("one-to-one", 49)
    module = model.fill(OneToOne())
    inputs = {"features": model.floats(B, 8), "targets": model.ids(B)}
    yield model.result(module, inputs, next_token_loss(module(inputs["features"]), inputs["targets"]))
    yield elmo()


class Elmo(nn.Module):
    """Character convolution, highway layers, projection, and two projected LSTM layers a direction (Peters et al. 2018)."""

    def __init__(self, characters=20, dim=4, filters=((1, 4), (3, 6)), hidden=12, projection=8):
        super().__init__()
        self.char_embed = nn.Embedding(characters, dim)
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, count, width) for width, count in filters)
        total = sum(count for _, count in filters)
        self.highways = nn.ModuleList(nn.Linear(total, 2 * total) for _ in range(2))
        self.projection = nn.Linear(total, projection)
        cell = lambda: nn.LSTM(projection, hidden, proj_size=projection, batch_first=True)
        self.layers = nn.ModuleDict({way: nn.ModuleList([cell(), cell()]) for way in ("forward_", "backward_")})
        self.softmax = nn.Linear(projection, VOCAB)

    def words(self, characters):
        batch, steps, length = characters.shape
        x = self.char_embed(characters).flatten(0, 1).mT
        x = torch.cat([F.relu(c(x).amax(-1)) for c in self.convolutions], -1).unflatten(0, (batch, steps))
        for highway in self.highways:
            new, gate = highway(x).chunk(2, -1)
            x = gate.sigmoid() * F.relu(new) + (1 - gate.sigmoid()) * x
        return self.projection(x)

    def direction(self, x, way):
        for number, layer in enumerate(self.layers[way]):
            y = layer(x.flip(1))[0].flip(1) if way == "backward_" else layer(x)[0]
            x = y + x if number > 0 else y
        return self.softmax(x)


def elmo():
    model = Model("elmo", 50)
    module = Elmo()
    model.fill(module)
    with torch.no_grad():  # One bias vector: TensorFlow's LSTM has no second one.
        for name, parameter in module.named_parameters():
            if "bias_hh" in name:
                parameter.zero_()
    inputs = {"characters": model.ids(B, S, 6, below=20), "forward.targets": model.ids(B, S), "backward.targets": model.ids(B, S)}
    words = module.words(inputs["characters"])
    losses = [next_token_loss(module.direction(words, f"{way}_"), inputs[f"{way}.targets"]) for way in ("forward", "backward")]

    def rename(name, tensor):
        if "bias_hh" in name:
            return []
        if name.startswith("convolutions."):
            _, index, part = name.split(".")
            return [(f"char_conv_{index}.{part}", tensor.unsqueeze(2) if part == "weight" else tensor)]
        if name.startswith("layers."):
            _, way, number, part = name.split(".")
            ending = "_reverse" if way == "backward_" else ""
            return [(f"{way[:-1]}.{part.replace('_l0', f'_l{number}')}{ending}", tensor)]
        return [(name, tensor)]

    return model.result(module, inputs, sum(losses) / 2, rename)


def resnet():
    for seed, name, config in (
        (61, "resnet18", hf.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8, 16, 32], depths=[1, 1, 1, 1],
                                         layer_type="basic", num_labels=7)),
        (62, "resnet50", hf.ResNetConfig(embedding_size=2, hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 1, 1],
                                         layer_type="bottleneck", num_labels=7)),
    ):
        model = Model(name, seed)
        module = model.fill(hf.ResNetForImageClassification(config))
        inputs = {"image": model.floats(4, 3, 48, 48), "targets": model.ids(4, below=7)}
        logits = module(pixel_values=inputs["image"]).logits
        yield model.result(module, inputs, next_token_loss(logits, inputs["targets"]), resnet_names)


def resnet_names(name, tensor):
    """From the modules of transformers to those of torchvision."""
    kind = lambda part: "conv" if part == "convolution" else "bn"
    parts = name.removeprefix("resnet.").split(".")
    if parts[0] == "embedder":
        return [(f"{kind(parts[2])}1.{parts[-1]}", tensor)]
    if parts[0] == "encoder":
        at = f"layer{int(parts[2]) + 1}.{parts[4]}"
        if parts[5] == "shortcut":
            return [(f"{at}.downsample.{0 if parts[6] == 'convolution' else 1}.{parts[-1]}", tensor)]
        return [(f"{at}.{kind(parts[7])}{int(parts[6]) + 1}.{parts[-1]}", tensor)]
    return [(f"fc.{parts[-1]}", tensor)]


class BasicConvolution(nn.Module):
    """torchvision's `BasicConv2d`."""

    def __init__(self, inputs, outputs, **window):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, bias=False, **window)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class InceptionBlock(nn.Module):
    """Mixed_5b and Mixed_6a of torchvision's Inception-v3, an eighth as wide, and a classifier."""

    def __init__(self, inputs=6, classes=7):
        super().__init__()
        conv = BasicConvolution
        self.Mixed_5b = nn.ModuleDict({
            "branch1x1": conv(inputs, 8, kernel_size=1),
            "branch5x5_1": conv(inputs, 6, kernel_size=1), "branch5x5_2": conv(6, 8, kernel_size=5, padding=2),
            "branch3x3dbl_1": conv(inputs, 8, kernel_size=1), "branch3x3dbl_2": conv(8, 12, kernel_size=3, padding=1),
            "branch3x3dbl_3": conv(12, 12, kernel_size=3, padding=1), "branch_pool": conv(inputs, 4, kernel_size=1)})
        self.Mixed_6a = nn.ModuleDict({
            "branch3x3": conv(32, 12, kernel_size=3, stride=2),
            "branch3x3dbl_1": conv(32, 8, kernel_size=1), "branch3x3dbl_2": conv(8, 12, kernel_size=3, padding=1),
            "branch3x3dbl_3": conv(12, 12, kernel_size=3, stride=2)})
        self.fc = nn.Linear(56, classes)

    def forward(self, x):
        def run(block, *names, at=None):
            y = x if at is None else at
            for name in names:
                y = block[name](y)
            return y
        m = self.Mixed_5b
        pooled = F.avg_pool2d(x, 3, stride=1, padding=1)
        x = torch.cat([run(m, "branch1x1"), run(m, "branch5x5_1", "branch5x5_2"),
                       run(m, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"), run(m, "branch_pool", at=pooled)], 1)
        m = self.Mixed_6a
        three = ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]
        x = torch.cat([run(m, "branch3x3", at=x), run(m, *three, at=x), F.max_pool2d(x, 3, stride=2)], 1)
        return self.fc(x.mean((2, 3)))


class Gnmt(nn.Module):
    """Two layers each way: the first of the encoder in both directions, normed Bahdanau attention from the decoder's first."""

    def __init__(self, units=10):
        super().__init__()
        lstm = lambda inputs, **more: nn.LSTM(inputs, units, bias=False, batch_first=True, **more)
        self.source, self.target = nn.Embedding(VOCAB, units), nn.Embedding(VOCAB, units)
        self.encoder = nn.ModuleList([lstm(units, bidirectional=True), lstm(2 * units)])
        self.decoder = nn.ModuleList([lstm(2 * units), lstm(2 * units)])
        self.keys, self.query = nn.Linear(units, units, bias=False), nn.Linear(units, units, bias=False)
        self.v, self.g = nn.Parameter(torch.randn(units)), nn.Parameter(torch.ones(1))
        self.output = nn.Linear(units, VOCAB, bias=False)

    def forward(self, tokens, decoder_tokens):
        memory = self.encoder[1](self.encoder[0](self.source(tokens))[0])[0]
        words, keys = self.target(decoder_tokens), self.keys(memory)
        context, state, outputs, contexts = torch.zeros_like(words[:, :1]), None, [], []
        for step in range(words.shape[1]):
            y, state = self.decoder[0](torch.cat([words[:, step : step + 1], context], -1), state)
            scores = torch.tanh(self.query(y)[:, :, None] + keys[:, None]) @ (self.g * self.v / self.v.norm())
            context = scores.softmax(-1) @ memory
            outputs.append(y)
            contexts.append(context)
        both = torch.cat([torch.cat(outputs, 1), torch.cat(contexts, 1)], -1)
        return self.output(self.decoder[1](both)[0])


def gnmt():
    model = Model("gnmt", 51)
    module = model.fill(Gnmt())
    inputs = {"tokens": model.ids(B, 5), "decoder_tokens": model.ids(B, 5), "targets": model.ids(B, 5)}
    names = {"source.weight": "encoder.embedding.weight", "target.weight": "decoder.embedding.weight",
             "keys.weight": "decoder.attention.memory_layer.weight", "query.weight": "decoder.attention.query_layer.weight",
             "v": "decoder.attention.v", "g": "decoder.attention.g", "output.weight": "decoder.output.weight"}

    def rename(name, tensor):
        if name in names:
            return [(names[name], tensor)]
        side, number, part = name.split(".")
        return [(f"{side}.rnn.{part.replace('_l0', f'_l{number}')}", tensor)]

    yield model.result(module, inputs, next_token_loss(module(inputs["tokens"], inputs["decoder_tokens"]), inputs["targets"]), rename)


def inception():
    model = Model("inception-block", 71)
    module = model.fill(InceptionBlock())
    inputs = {"image": model.floats(B, 6, 9, 9), "targets": model.ids(B, below=7)}
    yield model.result(module, inputs, next_token_loss(module(inputs["image"]), inputs["targets"]))


def all_models():
    for family in (decoders, encoders, t5, recurrent, gnmt, resnet, inception):
        yield from family()
