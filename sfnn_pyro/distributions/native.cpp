// A layer of Bernoulli units, in one pass over its logits: the draw, and the log-probability.
// See native.py; every vector operation is GCC's and Clang's own, for whatever processor it is.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * WIDTH)));
typedef int32_t Ints __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t Halves __attribute__((vector_size(2 * WIDTH)));
typedef int16_t Shorts __attribute__((vector_size(2 * WIDTH)));

using Bfloat16 = uint16_t;

inline Floats load(const float* from) {
    Floats x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline Floats load(const Bfloat16* from) {
    Halves half;
    std::memcpy(&half, from, sizeof half);
    const Ints whole = __builtin_convertvector(half, Ints) << 16;
    Floats x;
    std::memcpy(&x, &whole, sizeof x);
    return x;
}

template <typename T>
inline Floats load(const T* from, int count) {  // the last numbers of a row, and zeros
    T rest[WIDTH] = {};
    std::memcpy(rest, from, count * sizeof(T));
    return load(rest);
}

inline float number(const float* from) { return *from; }

inline float number(const Bfloat16* from) {
    const uint32_t whole = uint32_t(*from) << 16;
    float x;
    std::memcpy(&x, &whole, sizeof x);
    return x;
}

// exp, to a few units in the last place; from -87 to 88, and the nearest of these beyond.
inline Floats exponential(Floats z) {
    z = z < -87.0f ? -87.0f + Floats{} : z;
    z = z > 88.0f ? 88.0f + Floats{} : z;
    const Floats shifted = z * 1.44269504f + 12582912.0f;  // 1.5 * 2**23: the low bits are whole
    const Floats n = shifted - 12582912.0f;
    const Floats r = z - n * 0.693359375f - n * -2.12194440e-4f;
    Floats p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    Ints bits;
    std::memcpy(&bits, &p, sizeof bits);
    bits += __builtin_convertvector(n, Ints) << 23;
    std::memcpy(&p, &bits, sizeof p);
    return p;
}

// Of numbers from 1 on: as exact as a division but in the last place, and far quicker.
inline Floats reciprocal(Floats x) {
#if defined(__AVX512F__)
    const Floats guess = Floats(_mm512_rcp14_ps(__m512(x)));
    return guess + guess * (1.0f - x * guess);
#else
    return 1.0f / x;
#endif
}

// A draw of sixteen bits u - 32768 is a one where they are at most this; u = 0 stands aside.
inline Shorts threshold(Floats logits) {
    Floats scaled = 65536.0f / (1.0f + exponential(-logits));
    scaled = scaled > 0.0f ? scaled : Floats{};  // NaN too
    scaled = scaled > 65535.0f ? 65535.0f + Floats{} : scaled;
    return __builtin_convertvector(__builtin_convertvector(scaled, Ints) - 32768, Shorts);
}

template <typename T>
void thresholds(const T* logits, int16_t* out, int64_t count) {
    int64_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) {
        const Shorts found = threshold(load(logits + i));
        std::memcpy(out + i, &found, sizeof found);
    }
    if (i < count) {
        const Shorts found = threshold(load(logits + i, int(count - i)));
        std::memcpy(out + i, &found, (count - i) * sizeof(int16_t));
    }
}

inline Shorts shorts(const int16_t* from) {
    Shorts x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline void store(Shorts ones, float* out) {
    const Ints x = __builtin_convertvector(ones, Ints) & 0x3f800000;
    std::memcpy(out, &x, sizeof x);
}

inline void store(Shorts ones, Bfloat16* out) {
    const Shorts x = ones & 0x3f80;
    std::memcpy(out, &x, sizeof x);
}

inline float one_of(float) { return 1.0f; }

inline Bfloat16 one_of(Bfloat16) { return 0x3f80; }

template <typename T>
inline void write(const int16_t* bits, const int16_t* most, T* out, int count) {
    int i = 0;
    for (; i + WIDTH <= count; i += WIDTH) store(shorts(bits + i) <= shorts(most + i), out + i);
    for (; i < count; ++i) out[i] = bits[i] <= most[i] ? one_of(T()) : T(0);
}

inline void store(Ints ones, float* out) {
    const Ints x = ones & 0x3f800000;
    std::memcpy(out, &x, sizeof x);
}

inline void store(Ints ones, Bfloat16* out) {
    const Halves x = __builtin_convertvector(ones & 0x3f80, Halves);
    std::memcpy(out, &x, sizeof x);
}

// The same without the probability: u / 65536 <= 1 / (1 + e) without a division.
template <typename T>
inline void write_anew(const int16_t* bits, const T* logits, T* out, int count) {
    const auto ones = [](Shorts drawn, Floats a) {
        const Floats u = __builtin_convertvector(__builtin_convertvector(drawn, Ints), Floats);
        return (u + 32768.0f) * (1.0f + exponential(-a)) <= 65536.0f;
    };
    int i = 0;
    for (; i + WIDTH <= count; i += WIDTH) store(ones(shorts(bits + i), load(logits + i)), out + i);
    if (i < count) {
        T rest[WIDTH];
        int16_t drawn[WIDTH] = {};
        std::memcpy(drawn, bits + i, (count - i) * sizeof *drawn);
        store(ones(shorts(drawn), load(logits + i, count - i)), rest);
        std::memcpy(out + i, rest, (count - i) * sizeof(T));
    }
}

inline bool holds_undecided(const int16_t* bits, int count) {
    Shorts found = {};
    int i = 0;
    for (; i + WIDTH <= count; i += WIDTH) found |= shorts(bits + i) == INT16_MIN;
    bool any = false;
    for (; i < count; ++i) any = any || bits[i] == INT16_MIN;
    uint64_t words[sizeof found / 8], all = 0;
    std::memcpy(words, &found, sizeof found);
    for (uint64_t word : words) all |= word;
    return any || all;
}

template <int LANES>
struct WordsOf;
template <>
struct WordsOf<1> { typedef uint64_t Type __attribute__((vector_size(8))); };
template <>
struct WordsOf<2> { typedef uint64_t Type __attribute__((vector_size(16))); };
template <>
struct WordsOf<4> { typedef uint64_t Type __attribute__((vector_size(32))); };
template <>
struct WordsOf<8> { typedef uint64_t Type __attribute__((vector_size(64))); };

// LANES of NumPy's SFC64 generators side by side.
template <int LANES>
struct Generators {
    using Words = typename WordsOf<LANES>::Type;
    Words a, b, c, w;

    explicit Generators(const uint64_t* seeds) {
        uint64_t start[4][LANES];
        for (int g = 0; g < LANES; ++g) {
            for (int k = 0; k < 3; ++k) start[k][g] = seeds[3 * g + k];
            start[3][g] = 1;
        }
        std::memcpy(&a, start[0], sizeof a);
        std::memcpy(&b, start[1], sizeof b);
        std::memcpy(&c, start[2], sizeof c);
        std::memcpy(&w, start[3], sizeof w);
        uint64_t words[LANES];
        for (int k = 0; k < 12; ++k) next(words);
    }

    inline void next(uint64_t* words) {
        const Words sum = a + b + w;
        w += 1;
        a = b ^ (b >> 11);
        b = c + (c << 3);
        c = ((c << 24) | (c >> 40)) + sum;
        std::memcpy(words, &sum, sizeof sum);
    }
};

constexpr int BLOCK = 1024;  // draws of a generator whose bits stay in the first-level cache

template <typename T, int LANES>
void draw_parts(
    const T* logits, T* out, int64_t period, int64_t count, int64_t part, const uint64_t* seeds,
    int64_t first, const int16_t* table, std::vector<int64_t>* undecided
) {
    Generators<LANES> generators(seeds + 3 * first);
    alignas(64) int16_t bits[LANES][BLOCK];
    for (int64_t done = 0; done < part; done += BLOCK) {
        const int size = part - done < BLOCK ? int(part - done) : BLOCK;
        for (int k = 0; k < size; k += 4) {
            uint64_t words[LANES];
            generators.next(words);
            for (int g = 0; g < LANES; ++g) std::memcpy(bits[g] + k, words + g, sizeof *words);
        }
        for (int g = 0; g < LANES; ++g) {
            const int64_t start = (first + g) * part + done;
            if (start >= count) continue;
            const int draws = count - start < size ? int(count - start) : size;
            if (table) {
                int64_t place = start % period;
                for (int i = 0; i < draws;) {
                    const int run = period - place < draws - i ? int(period - place) : draws - i;
                    write(bits[g] + i, table + place, out + start + i, run);
                    i += run;
                    place = 0;
                }
            } else {
                write_anew(bits[g], logits + start, out + start, draws);
            }
            if (holds_undecided(bits[g], draws)) {
                for (int i = 0; i < draws; ++i) {
                    if (bits[g][i] == INT16_MIN) undecided[first + g].push_back(start + i);
                }
            }
        }
    }
}

thread_local std::vector<int64_t> found;

template <typename T>
int64_t draw(
    const T* logits, T* out, int64_t period, int64_t count, int64_t part, const uint64_t* seeds,
    int64_t streams, int threads
) {
    std::vector<int16_t> shared;
    if (period < count) {
        shared.resize(period);
        int16_t* most = shared.data();
        constexpr int64_t RUN = 4096;
        const int64_t runs = (period + RUN - 1) / RUN;
#pragma omp parallel for num_threads(threads) if (runs > 4)
        for (int64_t r = 0; r < runs; ++r) {
            const int64_t start = r * RUN;
            thresholds(logits + start, most + start, period - start < RUN ? period - start : RUN);
        }
    }
    const int16_t* table = period < count ? shared.data() : nullptr;
    int lanes = 1;  // side by side in a thread
    while (lanes < streams && lanes * threads < streams) lanes *= 2;
    const int64_t groups = streams / lanes;
    std::vector<std::vector<int64_t>> undecided(streams);
#pragma omp parallel for num_threads(threads) if (groups > 1)
    for (int64_t group = 0; group < groups; ++group) {
        const int64_t first = group * lanes;
        auto run = lanes == 1   ? draw_parts<T, 1>
                   : lanes == 2 ? draw_parts<T, 2>
                   : lanes == 4 ? draw_parts<T, 4>
                                : draw_parts<T, 8>;
        run(logits, out, period, count, part, seeds, first, table, undecided.data());
    }
    found.clear();
    for (const auto& one : undecided) found.insert(found.end(), one.begin(), one.end());
    return int64_t(found.size());
}

template <typename T>
void settle(const T* logits, T* out, int64_t period, const float* fractions) {
    for (size_t i = 0; i < found.size(); ++i) {
        const float p = 1.0f / (1.0f + std::exp(-number(logits + found[i] % period)));
        const float scaled = p * 65536.0f, whole = std::floor(scaled);
        out[found[i]] = fractions[i] < scaled - (whole < 65535.0f ? whole : 65535.0f) ? one_of(T()) : T(0);
    }
}

template <typename T>
inline float folded(const T& x, float (*join)(float, float)) {
    float parts[WIDTH];
    std::memcpy(parts, &x, sizeof parts);
    for (int width = WIDTH / 2; width; width /= 2) {
        for (int j = 0; j < width; ++j) parts[j] = join(parts[j], parts[j + width]);
    }
    return parts[0];
}

inline float total(Floats x) {
    return folded(x, [](float a, float b) { return a + b; });
}

// Of numbers in [1, 2**120]: the logarithm of their product.
inline float log_of_product(Floats factors) {
    Ints bits;
    std::memcpy(&bits, &factors, sizeof bits);
    const Ints fractions = (bits & 0x007fffff) | 0x3f800000;
    Floats parts;
    std::memcpy(&parts, &fractions, sizeof parts);
    const float exponent = total(__builtin_convertvector((bits >> 23) - 127, Floats));
    const float product = folded(parts, [](float a, float b) { return a * b; });
    return exponent * 0.69314718056f + std::log(product);
}

constexpr int FACTORS = 120;  // at most 2 each, so that their product is finite

template <typename L, typename V>
float log_prob_of_row(const L* logits, const V* values, int64_t n) {
    Floats factors = 1.0f + Floats{}, loss = Floats{};
    float logs = 0.0f;
    int64_t i = 0, taken = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const Floats a = load(logits + i);
        const Floats negative = a < 0.0f ? a : -a;
        factors *= 1.0f + exponential(negative);
        loss += (a > 0.0f ? a : Floats{}) - load(values + i) * a;
        if (++taken == FACTORS) {
            logs += log_of_product(factors);
            factors = 1.0f + Floats{};
            taken = 0;
        }
    }
    if (i < n) {  // a logit of zero is a factor of two, which is no part of the row
        const int rest = int(n - i);
        const Floats a = load(logits + i, rest);
        const Floats negative = a < 0.0f ? a : -a;
        Floats last = 1.0f + exponential(negative);
        for (int j = rest; j < WIDTH; ++j) last[j] = 1.0f;
        logs += log_of_product(factors);
        factors = last;
        loss += (a > 0.0f ? a : Floats{}) - load(values + i, rest) * a;
    }
    return -(logs + log_of_product(factors)) - total(loss);
}

template <typename L, typename V>
bool log_prob(
    const L* logits, int64_t rows_of_logits, const V* values, int64_t rows_of_values, float* sums,
    int64_t rows, int64_t n, int threads
) {
    bool bad = false;
#pragma omp parallel for num_threads(threads) if (rows * n > 16384) reduction(|| : bad)
    for (int64_t row = 0; row < rows; ++row) {
        const L* a = logits + row % rows_of_logits * n;
        sums[row] = log_prob_of_row(a, values + row % rows_of_values * n, n);
        bad = bad || std::isnan(sums[row]);
    }
    return bad;
}

inline void store(Floats x, float* out, int count) { std::memcpy(out, &x, count * sizeof *out); }

inline void store(Floats x, Bfloat16* out, int count) {  // rounded to the nearest, ties to even
    Ints bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits = x == x ? bits + 0x7fff + ((bits >> 16) & 1) : bits;
    const Halves half = __builtin_convertvector((bits >> 16) & 0xffff, Halves);
    std::memcpy(out, &half, count * sizeof *out);
}

// Zero for what is below the square root of the smallest normal number, as in responsibilities():
// it is lost in any sum with others, and its products are denormal numbers, which make a matrix
// product many times slower.
inline Floats without_tiny(Floats value) {
    const Floats size = value < 0.0f ? -value : value;
    return size < 1.0842022e-19f ? Floats{} : value;
}

inline Floats pulled(Floats a, Floats value, float weight) {
    return without_tiny(weight * (value - reciprocal(1.0f + exponential(-a))));
}

template <typename L, typename V>
void pull(
    const L* logits, int64_t rows_of_logits, const V* values, int64_t rows_of_values,
    const float* weights, L* out, int64_t rows, int64_t n, int threads
) {
#pragma omp parallel for num_threads(threads) if (rows * n > 16384)
    for (int64_t row = 0; row < rows; ++row) {
        const L* a = logits + row % rows_of_logits * n;
        const V* v = values + row % rows_of_values * n;
        L* o = out + row * n;
        int64_t i = 0;
        for (; i + WIDTH <= n; i += WIDTH) {
            store(pulled(load(a + i), load(v + i), weights[row]), o + i, WIDTH);
        }
        if (i < n) {
            const int rest = int(n - i);
            store(pulled(load(a + i, rest), load(v + i, rest), weights[row]), o + i, rest);
        }
    }
}

inline Floats sloped(Floats grad, Floats a) {
    const Floats e = exponential(a < 0.0f ? a : -a), r = reciprocal(1.0f + e);
    return without_tiny(grad * (e * r) * r);
}

template <typename G, typename L>
void slope(const G* grads, const L* logits, L* out, int64_t count, int threads) {
    constexpr int64_t RUN = 4096;
    const int64_t runs = (count + RUN - 1) / RUN;
#pragma omp parallel for num_threads(threads) if (runs > 4)
    for (int64_t r = 0; r < runs; ++r) {
        const int64_t end = count < (r + 1) * RUN ? count : (r + 1) * RUN;
        int64_t i = r * RUN;
        for (; i + WIDTH <= end; i += WIDTH) {
            store(sloped(load(grads + i), load(logits + i)), out + i, WIDTH);
        }
        if (i < end) {
            const int rest = int(end - i);
            store(sloped(load(grads + i, rest), load(logits + i, rest)), out + i, rest);
        }
    }
}

// Calls a function with pointers of the types that two kinds stand for.
template <typename F>
auto typed(const void* one, int64_t kind, const void* two, int64_t kind_of_two, F call) {
    const float* a = static_cast<const float*>(one);
    const Bfloat16* half_a = static_cast<const Bfloat16*>(one);
    const float* b = static_cast<const float*>(two);
    const Bfloat16* half_b = static_cast<const Bfloat16*>(two);
    if (kind == 0) return kind_of_two == 0 ? call(a, b) : call(a, half_b);
    return kind_of_two == 0 ? call(half_a, b) : call(half_a, half_b);
}

}  // namespace

extern "C" int64_t sfnn_draw(
    const void* logits, int64_t kind, void* out, int64_t period, int64_t count, int64_t part,
    const void* seeds, int64_t streams, int64_t threads
) {
    const uint64_t* words = static_cast<const uint64_t*>(seeds);
    if (kind == 0) {
        return draw<float>(
            static_cast<const float*>(logits), static_cast<float*>(out), period, count, part, words,
            streams, int(threads)
        );
    }
    return draw<Bfloat16>(
        static_cast<const Bfloat16*>(logits), static_cast<Bfloat16*>(out), period, count, part,
        words, streams, int(threads)
    );
}

extern "C" void sfnn_settle(
    const void* logits, int64_t kind, void* out, int64_t period, const void* fractions
) {
    const float* parts = static_cast<const float*>(fractions);
    if (kind == 0) {
        settle<float>(
            static_cast<const float*>(logits), static_cast<float*>(out), period, parts
        );
    } else {
        settle<Bfloat16>(
            static_cast<const Bfloat16*>(logits), static_cast<Bfloat16*>(out), period, parts
        );
    }
}

extern "C" int64_t sfnn_log_prob(
    const void* logits, int64_t kind, int64_t rows_of_logits, const void* values,
    int64_t kind_of_values, int64_t rows_of_values, void* sums, int64_t rows, int64_t n,
    int64_t threads
) {
    return typed(logits, kind, values, kind_of_values, [&](auto a, auto v) {
        float* out = static_cast<float*>(sums);
        return log_prob(a, rows_of_logits, v, rows_of_values, out, rows, n, int(threads));
    });
}

extern "C" void sfnn_pull(
    const void* logits, int64_t kind, int64_t rows_of_logits, const void* values,
    int64_t kind_of_values, int64_t rows_of_values, const void* weights, void* out, int64_t rows,
    int64_t n, int64_t threads
) {
    typed(logits, kind, values, kind_of_values, [&](auto a, auto v) {
        using L = std::remove_const_t<std::remove_pointer_t<decltype(a)>>;
        const float* w = static_cast<const float*>(weights);
        L* o = static_cast<L*>(out);
        pull(a, rows_of_logits, v, rows_of_values, w, o, rows, n, int(threads));
    });
}

extern "C" void sfnn_slope(
    const void* grads, int64_t kind_of_grads, const void* logits, int64_t kind, void* out,
    int64_t count, int64_t threads
) {
    typed(grads, kind_of_grads, logits, kind, [&](auto g, auto a) {
        using L = std::remove_const_t<std::remove_pointer_t<decltype(a)>>;
        slope(g, a, static_cast<L*>(out), count, int(threads));
    });
}
