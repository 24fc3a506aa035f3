"""Cases of one operator: the operator as the model graph writes it, and a function of PyTorch or transformers."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GPTJConfig, LlamaConfig, T5Config
from transformers.models.gptj import modeling_gptj
from transformers.models.llama import modeling_llama
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

B = 3
IGNORED = -100


class Cases:
    def __init__(self):
        self.random = torch.Generator().manual_seed(20261123)
        self.cases, self.tensors = [], {}

    def floats(self, *shape, scale=1.0, shift=0.0):
        numbers = torch.randn(*shape, generator=self.random, dtype=torch.float64) * scale + shift
        return numbers.float().double()

    def ids(self, below, *shape):
        return torch.randint(0, below, shape, generator=self.random)

    def add(self, name, kind, inputs, params, function, batched=None):
        """Runs `function(inputs, params)` and a vector-Jacobian product through it."""
        leaf = lambda x: x.clone().requires_grad_() if x.is_floating_point() else x
        inputs, params = [leaf(x) for x in inputs], [leaf(x) for x in params]
        output = function(inputs, params)
        upstream = torch.ones(()) if output.dim() == 0 else self.floats(*output.shape)
        (output * upstream).sum().backward()
        put = lambda key, tensor: self.tensors.__setitem__(f"{name}.{key}", tensor)
        put("output", output)
        if output.dim() > 0:
            put("upstream", upstream)
        for role, values in (("input", inputs), ("param", params)):
            for index, value in enumerate(values):
                put(f"{role}.{index}", value)
                if value.is_floating_point():
                    put(f"grad.{role}.{index}", torch.zeros_like(value) if value.grad is None else value.grad)
        self.cases.append({"name": name, "kind": kind, "batched": batched or [True] * len(inputs)})


def activations(c):
    functions = {
        "gelu": F.gelu, "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"), "relu": F.relu, "tanh": torch.tanh,
        "sigmoid": torch.sigmoid, "silu": F.silu, "relu6": F.relu6, "leaky-relu": F.leaky_relu,
        "squared-relu": lambda x: F.relu(x) ** 2, "quick-gelu": lambda x: x * torch.sigmoid(1.702 * x),
        "softplus": F.softplus, "hard-swish": F.hardswish, "hard-sigmoid": F.hardsigmoid, "erf": torch.erf,
        "exp": torch.exp, "square": torch.square, "absolute": torch.abs, "cosine": torch.cos, "sine": torch.sin,
    }
    positive = {"log": torch.log, "sqrt": torch.sqrt, "reciprocal": torch.reciprocal}
    for name, function in {**functions, **positive}.items():
        x = c.floats(B, 4, 5, scale=2.0)
        x = x.abs() + 0.25 if name in positive else x
        kind = {"op": "activation", "function": name}
        c.add(f"activation.{name}", kind, [x.float().double()], [], lambda i, p, f=function: f(i[0]))


def pointwise(c):
    c.add("add", {"op": "add"}, [c.floats(B, 4, 5), c.floats(B, 4, 5)], [], lambda i, p: i[0] + i[1])
    functions = {"add": torch.add, "subtract": torch.sub, "multiply": torch.mul, "divide": torch.div,
                 "maximum": torch.maximum, "minimum": torch.minimum, "power": torch.pow}
    for name, function in functions.items():
        left, right = c.floats(B, 4, 1, 6).abs() + 0.5, c.floats(B, 1, 5, 6).abs() + 0.5
        kind = {"op": "binary", "function": name}
        c.add(f"binary.{name}", kind, [left.float().double(), right.float().double()], [],
              lambda i, p, f=function: f(i[0], i[1]))
    c.add("binary.unbatched", {"op": "binary", "function": "multiply"}, [c.floats(B, 4, 6), c.floats(6)], [],
          lambda i, p: i[0] * i[1], [True, False])
    c.add("scale-shift", {"op": "scale-shift", "scale": -1.5, "shift": 0.25}, [c.floats(B, 7)], [],
          lambda i, p: -1.5 * i[0] + 0.25)
    for name, dims in (("channels", [4, 1, 1]), ("last", [5])):
        x = c.floats(B, 4, 3, 5)
        kind = {"op": "learned", "function": "multiply", "dims": dims, "init": "ones"}
        c.add(f"learned.{name}", kind, [x], [c.floats(*dims)], lambda i, p: i[0] * p[0])
    for packed in (False, True):
        inputs = [c.floats(B, 4, 10)] if packed else [c.floats(B, 4, 5), c.floats(B, 4, 5)]
        gate = lambda i, p: F.silu(torch.cat(i, -1)[..., :5]) * torch.cat(i, -1)[..., 5:]
        c.add(f"gate.packed-{packed}", {"op": "gate", "function": "silu", "packed": packed}, inputs, [], gate)
    for log in (False, True):
        function = F.log_softmax if log else F.softmax
        c.add(f"softmax.log-{log}", {"op": "softmax", "log": log}, [c.floats(B, 4, 7, scale=3.0)], [],
              lambda i, p, f=function: f(i[0], dim=-1))
    c.add("dropout.none", {"op": "dropout", "probability": 0.0}, [c.floats(B, 4)], [], lambda i, p: i[0] * 1.0)


def linear(c):
    embedding = {"op": "embedding", "vocab": 11, "dim": 6, "init_std": 1.0}
    c.add("embedding", embedding, [c.ids(11, B, 5)], [c.floats(11, 6)], lambda i, p: F.embedding(i[0], p[0]))
    position = {"op": "position-embedding", "positions": 9, "dim": 6, "init_std": 1.0, "offset": 2}
    c.add("position-embedding", position, [c.floats(B, 5, 6)], [c.floats(9, 6)], lambda i, p: i[0] + p[0][2:7])
    prepend = {"op": "prepend-tokens", "count": 2, "dim": 6, "init_std": 1.0}
    c.add("prepend-tokens", prepend, [c.floats(B, 5, 6)], [c.floats(2, 6)],
          lambda i, p: torch.cat([p[0].expand(B, 2, 6), i[0]], 1))
    for layout, bias in (("out-in", True), ("in-out", False)):
        kind = {"op": "linear", "inputs": 6, "outputs": 4, "bias": bias, "layout": layout, "init_std": 1.0}
        weight = c.floats(4, 6) if layout == "out-in" else c.floats(6, 4)
        turned = lambda w, layout=layout: w if layout == "out-in" else w.T
        c.add(f"linear.{layout}", kind, [c.floats(B, 5, 6)], [weight] + [c.floats(4)] * bias,
              lambda i, p, t=turned: F.linear(i[0], t(p[0]), *p[1:]))
    for transpose in (False, True):
        right = c.floats(B, 2, 3, 4) if transpose else c.floats(B, 2, 4, 3)
        c.add(f"mat-mul.transpose-{transpose}", {"op": "mat-mul", "transpose_right": transpose},
              [c.floats(B, 2, 5, 4), right], [], lambda i, p, t=transpose: i[0] @ (i[1].mT if t else i[1]))


def norms(c):
    x = lambda *shape: c.floats(B, *shape, scale=2.0, shift=0.5)
    c.add("layer-norm", {"op": "layer-norm", "dim": 8, "eps": 1e-5}, [x(4, 8)], [c.floats(8), c.floats(8)],
          lambda i, p: F.layer_norm(i[0], [8], *p, eps=1e-5))
    c.add("layer-norm.no-bias", {"op": "layer-norm", "dim": 8, "eps": 1e-5, "bias": False}, [x(4, 8)], [c.floats(8)],
          lambda i, p: F.layer_norm(i[0], [8], p[0], eps=1e-5))
    c.add("rms-norm", {"op": "rms-norm", "dim": 8, "eps": 1e-6}, [x(4, 8)], [c.floats(8)],
          lambda i, p: F.rms_norm(i[0], [8], p[0], eps=1e-6))
    c.add("rms-norm.unit-offset", {"op": "rms-norm", "dim": 8, "eps": 1e-6, "unit_offset": True}, [x(4, 8)],
          [c.floats(8)], lambda i, p: F.rms_norm(i[0], [8], p[0] + 1.0, eps=1e-6))
    for name, shape in (("image", (4, 5, 6)), ("line", (4, 7)), ("vector", (4,))):
        c.add(f"batch-norm.{name}", {"op": "batch-norm", "channels": 4, "eps": 1e-5}, [x(*shape)],
              [c.floats(4), c.floats(4)], lambda i, p: F.batch_norm(i[0], None, None, *p, training=True, eps=1e-5))
    for affine in (True, False):
        c.add(f"group-norm.affine-{affine}",
              {"op": "group-norm", "groups": 2, "channels": 4, "eps": 1e-5, "affine": affine}, [x(4, 5, 6)],
              [c.floats(4), c.floats(4)] if affine else [], lambda i, p: F.group_norm(i[0], 2, *p, eps=1e-5))


def heads_of(x, count):
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def sdpa(q, k, v, heads, kv_heads, **options):
    q, k, v = heads_of(q, heads), heads_of(k, kv_heads), heads_of(v, kv_heads)
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=heads != kv_heads, **options).transpose(1, 2).flatten(2)


def attention(c):
    heads, width, s = 4, 6, 7
    kind = lambda **more: {"op": "attention", "heads": heads, "head_dim": width, "causal": True, **more}
    full, narrow = heads * width, 2 * width
    three = lambda s, t, keys: [c.floats(B, s, full), c.floats(B, t, keys), c.floats(B, t, keys)]
    for causal in (True, False):
        c.add(f"attention.packed.causal-{causal}", kind(input="packed", causal=causal), [c.floats(B, s, 3 * full)], [],
              lambda i, p, causal=causal: sdpa(*i[0].chunk(3, -1), heads, heads, is_causal=causal))
    c.add("attention.fused", kind(input="packed", kernel="fused"), [c.floats(B, s, 3 * full)], [],
          lambda i, p: sdpa(*i[0].chunk(3, -1), heads, heads, is_causal=True))
    c.add("attention.grouped", kind(input="separate", kv_heads=2), three(s, s, narrow), [],
          lambda i, p: sdpa(*i, heads, 2, is_causal=True))
    c.add("attention.packed.grouped", kind(input="packed", kv_heads=2), [c.floats(B, s, full + 2 * narrow)], [],
          lambda i, p: sdpa(*i[0].split([full, narrow, narrow], -1), heads, 2, is_causal=True))

    def by_group(i, p):
        q, k, v = i[0].unflatten(-1, (2, 4, width)).split([2, 1, 1], -2)
        return sdpa(q.flatten(2), k.flatten(2), v.flatten(2), heads, 2, is_causal=True)

    c.add("attention.packed-by-group", kind(input="packed-by-group", kv_heads=2), [c.floats(B, s, 8 * width)], [], by_group)
    c.add("attention.cross", kind(input="separate", causal=False, scale=1.0), three(s, 9, full), [],
          lambda i, p: sdpa(*i, heads, heads, scale=1.0))
    memory = torch.ones(s, 9, dtype=torch.bool).tril(9 - s)
    c.add("attention.memory", kind(input="separate"), three(s, 9, full), [],
          lambda i, p: sdpa(*i, heads, heads, attn_mask=memory))
    window = torch.ones(s, s, dtype=torch.bool).tril().triu(-2)
    c.add("attention.window", kind(input="separate", window=3), three(s, s, full), [],
          lambda i, p: sdpa(*i, heads, heads, attn_mask=window))
    alibi = build_mpt_alibi_tensor(heads, s, alibi_bias_max=8).double()
    hidden = torch.full((s, s), float("-inf")).triu(1)
    c.add("attention.alibi", kind(input="separate", position={"alibi": {"max_bias": 8.0}}), three(s, s, full), [],
          lambda i, p: sdpa(*i, heads, heads, attn_mask=alibi + hidden))
    rotary_cases(c, kind, three)
    for causal in (True, False):
        t5_case(c, kind, three, causal)
    transformer_xl_case(c, kind)


def rotary_cases(c, kind, three):
    heads, width, s = 4, 6, 7
    full, scaled = heads * width, {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    ours = {"llama3": {"factor": 8.0, "low_frequency": 1.0, "high_frequency": 4.0, "original_positions": 16}}
    scalings = {
        "plain": ({"rope_type": "default"}, None),
        "linear": ({"rope_type": "linear", "factor": 4.0}, {"linear": {"factor": 4.0}}),
        "llama3": ({"rope_type": "llama3", "original_max_position_embeddings": 16, **scaled}, ours),
    }
    for name, (rope, scaling) in scalings.items():
        config = LlamaConfig(hidden_size=full, num_attention_heads=heads, max_position_embeddings=64,
                             rope_parameters={"rope_theta": 100.0, **rope})
        table = modeling_llama.LlamaRotaryEmbedding(config)
        cos, sin = table(torch.zeros(1), torch.arange(s)[None])

        def turned(i, p, cos=cos.double(), sin=sin.double()):
            q, k = modeling_llama.apply_rotary_pos_emb(heads_of(i[0], heads), heads_of(i[1], heads), cos, sin)
            flat = lambda x: x.transpose(1, 2).flatten(2)
            return sdpa(flat(q), flat(k), i[2], heads, heads, is_causal=True)

        rotary = {"base": 100.0, "dims": width, **({"scaling": scaling} if scaling else {})}
        c.add(f"attention.rotary.{name}", kind(input="separate", position={"rotary": rotary}), three(s, s, full), [], turned)
    table = modeling_gptj.create_sinusoidal_positions(GPTJConfig().n_positions, 4).double()[:s]
    sin, cos = table[None, :, :2], table[None, :, 2:]

    def interleaved(i, p):
        def turn(x):
            x = x.unflatten(-1, (heads, width))
            turned = modeling_gptj.apply_rotary_pos_emb(x[..., :4], sin, cos)
            return torch.cat([turned, x[..., 4:]], -1).flatten(2)
        return sdpa(turn(i[0]), turn(i[1]), i[2], heads, heads, is_causal=True)

    rotary = {"base": 10000.0, "dims": 4, "interleaved": True}
    c.add("attention.rotary.interleaved", kind(input="separate", position={"rotary": rotary}), three(s, s, full), [], interleaved)


def t5_case(c, kind, three, causal):
    heads, s = 4, 40
    config = T5Config(d_model=24, d_kv=6, num_heads=heads, relative_attention_num_buckets=8,
                      relative_attention_max_distance=20, is_decoder=causal)
    layer = T5Attention(config, has_relative_attention_bias=True).double()
    hidden = torch.full((s, s), float("-inf")).triu(1) if causal else torch.zeros(s, s)

    def biased(i, p):
        table = layer.relative_attention_bias
        table.weight = nn.Parameter(p[0].detach())
        bias = layer.compute_bias(s, s)
        result = sdpa(*i, heads, heads, attn_mask=bias + hidden, scale=1.0)
        # The table is a module's parameter: its gradient goes to our leaf through a hook.
        table.weight.register_hook(lambda gradient: setattr(p[0], "grad", gradient))
        return result

    position = {"relative-bias": {"buckets": 8, "max_distance": 20}}
    c.add(f"attention.relative-bias.causal-{causal}", kind(input="separate", causal=causal, scale=1.0, position=position),
          [c.floats(2, s, 24, scale=0.5) for _ in range(3)], [c.floats(8, heads)], biased)


def transformer_xl_case(c, kind):
    """Dai et al. 2019, section 3.3, as in kimiyoung/transformer-xl; transformers 5 has the model no more."""
    heads, width, s, t, hidden = 4, 6, 5, 8, 10

    def relative(i, p):
        (q, k, v), (r_net, u, w) = [heads_of(x, heads) for x in i], p
        speeds = 10000.0 ** (-torch.arange(0, hidden, 2) / hidden)
        angles = torch.arange(t - 1, -1, -1.0)[:, None] * speeds
        r = (torch.cat([angles.sin(), angles.cos()], -1) @ r_net.T).unflatten(-1, (heads, width)).transpose(0, 1)
        content = (q + u[:, None]) @ k.mT
        position = (q + w[:, None]) @ r.mT
        padded = torch.cat([torch.zeros(B, heads, s, 1), position], -1).reshape(B, heads, t + 1, s)
        shifted = padded[:, :, 1:].reshape(B, heads, s, t)
        seen = torch.ones(s, t, dtype=torch.bool).tril(t - s)
        scores = ((content + shifted) * width ** -0.5).masked_fill(~seen, float("-inf"))
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)

    full = heads * width
    c.add("attention.relative-projection", kind(input="separate", position={"relative-projection": {"hidden": hidden}}),
          [c.floats(B, s, full), c.floats(B, t, full), c.floats(B, t, full)],
          [c.floats(full, hidden), c.floats(heads, width), c.floats(heads, width)], relative)


def additive(c):
    for normed, bias in ((False, False), (True, True)):
        def attend(i, p, normed=normed, bias=bias):
            v = p[1] * p[0] / p[0].norm() if normed else p[0]
            hidden = torch.tanh(i[0][:, :, None] + i[1][:, None] + (p[-1] if bias else 0.0))
            return (hidden @ v).softmax(-1) @ i[2]
        params = [c.floats(6)] + [c.floats(1)] * normed + [c.floats(6)] * bias
        c.add(f"additive-attention.normed-{normed}",
              {"op": "additive-attention", "units": 6, "normed": normed, "bias": bias},
              [c.floats(B, 4, 6), c.floats(B, 5, 6), c.floats(B, 5, 3)], params, attend)


def recurrent(c):
    inputs, hidden, steps = 5, 6, 7
    modules = {"rnn-tanh": lambda **o: nn.RNN(inputs, hidden, batch_first=True, **o),
               "rnn-relu": lambda **o: nn.RNN(inputs, hidden, nonlinearity="relu", batch_first=True, **o),
               "gru": lambda **o: nn.GRU(inputs, hidden, batch_first=True, **o),
               "lstm": lambda **o: nn.LSTM(inputs, hidden, batch_first=True, **o)}

    def add(name, cell, bias="two", projection=None, reverse=False, state=False, output="sequence"):
        width, rows = projection or hidden, {"gru": 3, "lstm": 4}.get(cell, 1) * hidden
        params = [c.floats(rows, inputs, scale=0.5), c.floats(rows, width, scale=0.5)]
        params += [c.floats(rows, scale=0.5)] * {"two": 2, "one": 1, "none": 0}[bias]
        params += [c.floats(width, hidden, scale=0.5)] if projection else []
        whole = width + hidden if cell == "lstm" else width

        def run(i, p):
            options = {"proj_size": projection} if projection else {}
            module = modules[cell](bias=bias != "none", **options)
            names = ["weight_ih_l0", "weight_hh_l0"] + (["bias_ih_l0", "bias_hh_l0"] if bias != "none" else [])
            values = list(p[:2]) + (list(p[2:4]) if bias == "two" else [p[2], torch.zeros(rows)] if bias == "one" else [])
            if projection:
                names.append("weight_hr_l0")
                values.append(p[-1])
            named = dict(zip(names, values))
            x = i[0].flip(1) if reverse else i[0]
            parts = i[1].split([width, whole - width], 1) if state else None
            def call(x, parts):
                if parts is None:
                    return torch.func.functional_call(module, named, (x,))
                start = tuple(part[None].contiguous() for part in parts if part.shape[1])
                return torch.func.functional_call(module, named, (x, start if cell == "lstm" else start[0]))
            if output == "states":
                rows_of, last = [], parts
                for step in range(steps):
                    _, new = call(x[:, step : step + 1], last)
                    last = [part[0] for part in (new if cell == "lstm" else (new,))]
                    rows_of.append(torch.cat(last, 1))
                y = torch.stack(rows_of, 1)
            else:
                y, _ = call(x, parts)
            y = y.flip(1) if reverse else y
            return y[:, 0 if reverse else -1] if output == "last" else y

        kind = {"op": "recurrent", "cell": cell, "inputs": inputs, "hidden": hidden, "bias": bias, "output": output}
        kind |= ({"projection": projection} if projection else {}) | ({"reverse": True} if reverse else {})
        kind |= {"initial_state": True} if state else {}
        c.add(f"recurrent.{name}", kind, [c.floats(B, steps, inputs)] + [c.floats(B, whole)] * state, params, run)

    for cell in modules:
        add(cell, cell)
        add(f"{cell}.reverse", cell, reverse=True, bias="one", output="last")
        add(f"{cell}.states", cell, state=True, bias="none", output="states")
    add("lstm.projected", "lstm", projection=4, state=True, reverse=True)
    add("lstm.projected.states", "lstm", projection=4, output="states", bias="one")


def convolution(c):
    def add(name, function, x, outputs, kernel, stride=1, padding=0, dilation=1, groups=1, bias=True):
        axes = len(kernel)
        inputs = x.shape[1]
        several = lambda n: [n] * axes if isinstance(n, int) else list(n)
        pads = [[n, n] if isinstance(n, int) else list(n) for n in several(padding)]
        kind = {"op": "convolution", "inputs": inputs, "outputs": outputs, "kernel": kernel, "stride": several(stride),
                "padding": pads, "dilation": several(dilation), "groups": groups, "bias": bias}
        flat = [n for pair in reversed(pads) for n in pair]
        params = [c.floats(outputs, inputs // groups, *kernel)] + [c.floats(outputs)] * bias
        c.add(f"convolution.{name}", kind, [x], params,
              lambda i, p: function(F.pad(i[0], flat), *p, stride=several(stride), dilation=several(dilation), groups=groups))

    image = lambda channels, *extents: c.floats(B, channels, *extents)
    add("1d", F.conv1d, image(3, 9), 4, [3], stride=2, padding=1)
    add("1d.dilated", F.conv1d, image(4, 11), 6, [3], dilation=2, groups=2, bias=False)
    add("2d", F.conv2d, image(3, 8, 7), 4, [3, 3], padding=1)
    add("2d.strided", F.conv2d, image(3, 9, 8), 4, [3, 2], stride=[2, 3], padding=[1, 0], bias=False)
    add("2d.depthwise", F.conv2d, image(4, 6, 6), 8, [3, 3], padding=1, groups=4)
    add("2d.asymmetric", F.conv2d, image(2, 6, 7), 3, [2, 3], padding=[[0, 1], [2, 1]])
    add("2d.dilated", F.conv2d, image(2, 8, 8), 3, [3, 3], padding=2, dilation=2)
    add("2d.point", F.conv2d, image(5, 4, 4), 3, [1, 1], stride=2, bias=False)
    add("3d", F.conv3d, image(2, 4, 5, 6), 3, [2, 3, 3], padding=[0, 1, 1], stride=[1, 2, 1])
    add("3d.asymmetric", F.conv3d, image(2, 4, 4, 4), 2, [2, 2, 2], padding=[[0, 1], [1, 0], [0, 0]])


def pooling(c):
    def add(name, kind, function, x, kernel, stride, padding, ceil=False, dilation=1):
        axes = len(kernel)
        window = {"kernel": kernel, "stride": [stride] * axes, "padding": [[padding] * 2] * axes,
                  "dilation": [dilation] * axes, **({"ceil": True} if ceil else {})}
        c.add(f"pool.{name}", {"op": "pool", "function": kind, **window}, [x], [],
              lambda i, p: function(i[0], kernel, stride=stride, padding=padding, ceil_mode=ceil))

    image = lambda *extents: c.floats(B, 2, *extents)
    outside = lambda f: lambda *a, **o: f(*a, count_include_pad=False, **o)
    add("max", "max", F.max_pool2d, image(8, 7), [3, 3], 2, 1)
    add("max.ceil", "max", F.max_pool2d, image(8, 8), [3, 3], 2, 0, ceil=True)
    add("max.1d", "max", F.max_pool1d, image(9), [2], 2, 0)
    add("max.3d", "max", F.max_pool3d, image(5, 6, 6), [2, 3, 3], 2, 1)
    add("average", "average", F.avg_pool2d, image(8, 7), [3, 3], 2, 1)
    add("average.ceil", "average", F.avg_pool2d, image(8, 8), [3, 3], 2, 1, ceil=True)
    add("average.inside", "average-inside", outside(F.avg_pool2d), image(8, 7), [3, 3], 1, 1)
    add("average.inside.ceil", "average-inside", outside(F.avg_pool2d), image(8, 8), [3, 3], 2, 1, ceil=True)
    add("average.1d", "average", F.avg_pool1d, image(9), [3], 2, 1)
    add("average.3d", "average", F.avg_pool3d, image(4, 5, 6), [2, 2, 3], 2, 1)
    dilated = {"kernel": [3, 3], "stride": [1, 1], "padding": [[1, 1]] * 2, "dilation": [2, 2]}
    c.add("pool.max.dilated", {"op": "pool", "function": "max", **dilated}, [image(7, 7)], [],
          lambda i, p: F.max_pool2d(i[0], 3, stride=1, padding=1, dilation=2))
    for name, extents in (("image", (3, 4)), ("line", (5,))):
        c.add(f"upsample.{name}", {"op": "upsample", "factor": 2}, [image(*extents)], [],
              lambda i, p: F.interpolate(i[0], scale_factor=2.0, mode="nearest"))


def experts(c):
    s, count, top, dim, out = 6, 4, 2, 5, 3
    sizes = lambda top, capacity: {"experts": count, "top_k": top, **({"capacity": capacity} if capacity else {})}

    def gates_of(logits, top, normalised):
        chosen = logits.topk(top, -1).indices
        mask = torch.zeros_like(logits).scatter(-1, chosen, 1.0)
        if normalised:
            return logits.masked_fill(mask == 0, float("-inf")).softmax(-1)
        return logits.softmax(-1) * mask

    def route(gates, top, capacity):
        """For each sample the (expert, token) of every row; no token for a place that stays empty."""
        rows = []
        for sample in gates:
            tokens = [[t for t in range(s) if e in sample[t].topk(top).indices] for e in range(count)]
            rows.append([(e, t) for e in range(count) for t in
                         (tokens[e] if capacity is None else (tokens[e][:capacity] + [None] * capacity)[:capacity])])
        return rows

    for normalised in (True, False):
        c.add(f"router.normalised-{normalised}", {"op": "router", **sizes(top, None), "normalised": normalised},
              [c.floats(B, s, count)], [], lambda i, p, n=normalised: gates_of(i[0], top, n))
    for capacity, top in ((None, 2), (3, 2), (2, 1)):
        gates = gates_of(c.floats(B, s, count), top, False).float().double()
        rows = route(gates, top, capacity)
        name = f"top-{top}.capacity-{capacity}"
        zero = torch.zeros(dim)
        send = lambda i, p, rows=rows: torch.stack(
            [torch.stack([i[0][b, t] if t is not None else zero for _, t in rows[b]]) for b in range(B)])
        c.add(f"dispatch.{name}", {"op": "dispatch", **sizes(top, capacity)}, [c.floats(B, s, dim), gates], [], send)
        n = len(rows[0])
        each = lambda i, p, rows=rows: torch.stack(
            [torch.stack([p[e] @ i[0][b, r] for r, (e, _) in enumerate(rows[b])]) for b in range(B)])
        kind = {"op": "expert-linear", **sizes(top, capacity), "inputs": dim, "outputs": out, "init_std": 1.0}
        c.add(f"expert-linear.{name}", kind, [c.floats(B, n, dim), gates], [c.floats(out, dim) for _ in range(count)], each)

        def bring(i, p, rows=rows):
            samples = []
            for b in range(B):
                sums = [torch.zeros(out) for _ in range(s)]
                for r, (e, t) in enumerate(rows[b]):
                    if t is not None:
                        sums[t] = sums[t] + i[1][b, t, e] * i[0][b, r]
                samples.append(torch.stack(sums))
            return torch.stack(samples)

        c.add(f"combine.{name}", {"op": "combine", **sizes(top, capacity)}, [c.floats(B, n, out), gates], [], bring)


def shapes(c):
    c.add("select-token", {"op": "select-token", "index": 2}, [c.floats(B, 5, 6)], [], lambda i, p: i[0][:, 2])
    c.add("reshape", {"op": "reshape", "dims": [2, 15]}, [c.floats(B, 5, 6)], [], lambda i, p: i[0].reshape(B, 2, 15))
    c.add("transpose", {"op": "transpose", "axes": [2, 0, 3, 1]}, [c.floats(B, 2, 3, 4, 5)], [],
          lambda i, p: i[0].permute(0, 3, 1, 4, 2))
    c.add("concat", {"op": "concat", "axis": 1, "values": 3}, [c.floats(B, 2, n, 4) for n in (1, 3, 2)], [],
          lambda i, p: torch.cat(i, 2))
    for step in (1, 2):
        c.add(f"slice.step-{step}", {"op": "slice", "axis": 1, "start": 1, "end": 6, "step": step}, [c.floats(B, 3, 7, 2)],
              [], lambda i, p, step=step: i[0][:, :, 1:6:step])
    pick = lambda x, ids: torch.stack([x[b][ids[b]] for b in range(B)])
    c.add("gather", {"op": "gather"}, [c.floats(B, 5, 3), c.ids(5, B, 4)], [], lambda i, p: pick(*i))
    c.add("gather.shared-table", {"op": "gather"}, [c.floats(5, 3), c.ids(5, B, 4)], [], lambda i, p: i[0][i[1]],
          [False, True])
    c.add("gather.shared-indices", {"op": "gather"}, [c.floats(B, 5, 3), c.ids(5, 4)], [], lambda i, p: i[0][:, i[1]],
          [True, False])
    c.add("pad", {"op": "pad", "axis": 1, "before": 1, "after": 2}, [c.floats(B, 2, 3, 4)], [],
          lambda i, p: F.pad(i[0], (0, 0, 1, 2)))
    for name, function in (("sum", torch.sum), ("mean", torch.mean), ("max", torch.amax)):
        c.add(f"reduce.{name}", {"op": "reduce", "function": name, "axes": [0, 2]}, [c.floats(B, 3, 4, 5)], [],
              lambda i, p, f=function: f(i[0], dim=(1, 3)))


def losses(c):
    targets = c.ids(7, B, 5)
    cross_entropy = lambda i, p: F.cross_entropy(i[0].flatten(0, -2), i[1].flatten(), ignore_index=IGNORED)
    c.add("cross-entropy", {"op": "cross-entropy", "classes": 7, "counted": 5}, [c.floats(B, 5, 7), targets], [], cross_entropy)
    masked = targets.clone()
    masked[:, 2:] = IGNORED
    c.add("cross-entropy.masked", {"op": "cross-entropy", "classes": 7, "counted": 2}, [c.floats(B, 5, 7), masked], [],
          cross_entropy)
    c.add("cross-entropy.classes", {"op": "cross-entropy", "classes": 7, "counted": 1}, [c.floats(B, 7), c.ids(7, B)], [],
          cross_entropy)
    c.add("mean-squared-error", {"op": "mean-squared-error"}, [c.floats(B, 5, 4), c.floats(B, 5, 4)], [],
          lambda i, p: F.mse_loss(*i))


def all_cases():
    c = Cases()
    for family in (activations, pointwise, linear, norms, attention, additive, recurrent, convolution, pooling, experts,
                   shapes, losses):
        family(c)
    return c.cases, c.tensors
