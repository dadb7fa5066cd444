"""Where a step's time goes: the single operations it can be built from.

python -m benchmarks.ops [--keep-pages]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.network import BATCH, PARTICLES, SIZES
from benchmarks.options import add_keep_pages, parser_for
from benchmarks.timing import Call, interleave, machine, summary, write_json
from sfnn_pyro.system.allocator import keep_pages


def sampling(m: int, b: int, n: int) -> dict[str, Call]:
    p, p1 = torch.rand(m, b, n), torch.rand(b, n)
    u, h = torch.empty(m, b, n), torch.empty(m, b, n)
    words = torch.empty(m * b * n // 4, dtype=torch.int64)
    short = torch.empty(m, b, n, dtype=torch.int16)
    low = -(2**63)

    def sixteen_bits(out_words: torch.Tensor) -> torch.Tensor:
        return out_words.random_(low, None).view(torch.int16)

    def shared_words():
        bits = sixteen_bits(words).view(m, b, n)
        torch.mul(p, 65536.0, out=u).sub_(32768.0)
        return torch.lt(bits, u, out=h)

    return {
        "torch.rand": lambda: torch.rand(m, b, n),
        "uniform_ in place": lambda: u.uniform_(),
        "(rand < p).float()": lambda: (torch.rand(m, b, n) < p).float(),
        "uniform_, lt(out=float)": lambda: torch.lt(u.uniform_(), p, out=h),
        "uniform_, lt(p of (B, n), out=float)": lambda: torch.lt(u.uniform_(), p1, out=h),
        "lt(u, p, out=float)": lambda: torch.lt(u, p, out=h),
        "(u < p).float()": lambda: (u < p).float(),
        "bernoulli(p)": lambda: torch.bernoulli(p),
        "random_ int64, whole range, n/4 words": lambda: sixteen_bits(words),
        "randint int64, n/4 words": lambda: torch.randint(low, 2**63 - 1, words.shape),
        "random_ int16, whole range": lambda: short.random_(-(2**15), None),
        "random_ int32, n/2 words": lambda: words.view(torch.int32).random_(),
        "sixteen shared bits < p (mul, sub, lt)": shared_words,
    }


def elementwise(m: int, b: int, n: int, y: torch.Tensor) -> dict[str, Call]:
    a, g, out = torch.randn(m, b, n), torch.rand(m, b, n), torch.empty(m, b, n)
    h, p, c = (a > 0).float(), torch.rand(m, b, n), torch.rand(m, b, 1)
    y_full = y.expand(m, b, n)
    return {
        "empty + fill_": lambda: torch.empty(m, b, n).fill_(0.0),
        "fill_ in place": lambda: out.fill_(0.0),
        "sigmoid": lambda: torch.sigmoid(a),
        "sigmoid(out=)": lambda: torch.sigmoid(a, out=out),
        "exp": lambda: torch.exp(a),
        "exp(out=)": lambda: torch.exp(a, out=out),
        "log1p(out=)": lambda: torch.log1p(p, out=out),
        "log(out=)": lambda: torch.log(p, out=out),
        "softplus": lambda: F.softplus(a),
        "logsigmoid": lambda: F.logsigmoid(a),
        "bce_with_logits, none": lambda: F.binary_cross_entropy_with_logits(
            a, y_full, reduction="none"
        ),
        "bce_with_logits, none, sum(-1)": lambda: F.binary_cross_entropy_with_logits(
            a, y_full, reduction="none"
        ).sum(-1),
        "where(y, a, -a)": lambda: torch.where(y_full > 0, a, -a),
        "sum(-1)": lambda: a.sum(-1),
        "sum(0)": lambda: a.sum(0),
        "(h - p) * c": lambda: (h - p) * c,
        "sub(h, p, out=).mul_(c)": lambda: torch.sub(h, p, out=out).mul_(c),
        "g * p * (1 - p)": lambda: g * p * (1 - p),
        "sigmoid_backward": lambda: torch.ops.aten.sigmoid_backward(g, p),
        "sigmoid_backward(out=)": lambda: torch.ops.aten.sigmoid_backward.grad_input(
            g, p, grad_input=out
        ),
        "add (rows, n) + bias": lambda: a + y[0],
    }


def products(rows: int, n_in: int, n_out: int) -> dict[str, Call]:
    h, w, bias = torch.rand(rows, n_in), torch.rand(n_out, n_in), torch.rand(n_out)
    d, out, dw = torch.rand(rows, n_out), torch.empty(rows, n_out), torch.empty(n_out, n_in)
    dh, v = torch.empty(rows, n_in), w.t().contiguous()
    return {
        "linear (addmm)": lambda: F.linear(h, w, bias),
        "addmm(out=)": lambda: torch.addmm(bias, h, w.t(), out=out),
        "h w', fresh": lambda: h @ w.t(),
        "h w', out=": lambda: torch.mm(h, w.t(), out=out),
        "h v, out= (v = w' stored)": lambda: torch.mm(h, v, out=out),
        "d' h, fresh": lambda: d.t() @ h,
        "d' h, out=": lambda: torch.mm(d.t(), h, out=dw),
        "d w, fresh": lambda: d @ w,
        "d w, out=": lambda: torch.mm(d, w, out=dh),
    }


def main(argv=None) -> None:
    parser = parser_for(__doc__, rounds=15)
    add_keep_pages(parser)
    args = parser.parse_args(argv)
    if args.keep_pages and not keep_pages():
        parser.error("this C library has no mallopt")
    torch.set_num_threads(args.threads)
    rows, (_, n1, n2, ny) = PARTICLES * BATCH, SIZES
    y = (torch.rand(BATCH, ny) < 0.3).float()
    groups = {
        f"sampling, {rows} x {n1}": sampling(PARTICLES, BATCH, n1),
        f"elementwise, {rows} x {n1}": elementwise(PARTICLES, BATCH, n1, y[:, :n1].contiguous()),
        f"elementwise, {rows} x {ny}": elementwise(PARTICLES, BATCH, ny, y),
        f"products, {rows} x {n1} x {n2}": products(rows, n1, n2),
        f"products, {rows} x {n2} x {ny}": products(rows, n2, ny),
    }
    results = {"machine": machine(args.threads), "keep_pages": args.keep_pages}
    with torch.no_grad():
        for group, calls in groups.items():
            timing = interleave(calls, rounds=args.rounds, per_round=10, settle=0.0)
            results[group] = summary(timing.seconds)
            print(f"\n{group}, ms")
            for name, row in results[group].items():
                print(f"  {name:40s} {row['median']:7.3f}   best {row['min']:7.3f}")
    if args.out:
        write_json(args.out, results)


if __name__ == "__main__":
    main()
