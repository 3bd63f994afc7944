/* Rows of words to logits of windows: `detectors.semantic.fast` says what the net is.
 *
 * In numpy the same takes ten times as long for a short text, nearly all of it between the operations. The tables stay in
 * eight bits or half precision and are not copied: what is looked up is widened on the way.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16      /* channels that are worked out together, in registers; a net has a multiple of them */
#define MOST_ROWS 4   /* inputs of a layer that are */
#define INLINE inline __attribute__((always_inline)) /* so that it is compiled for each kind of processor */
#define PARALLEL 2000 /* tokens from which other threads may go on meanwhile */
#define MAX_SIDE 4096 /* of any matrix but the tables, so that no product of sides overflows */
#define MAX_BITS 24

enum { SHARES, SCALES, GRAMS, FIRST_BIAS, SECOND, SECOND_BIAS, DENSE, DENSE_BIAS, LAST, LAST_BIAS, ARRAYS };

typedef struct {
    PyObject_HEAD
    Py_buffer arrays[ARRAYS];
    Py_ssize_t rows, channels, hidden, outputs;
    unsigned bits;
} Net;

static const int32_t PAD = 0;

static INLINE float widened(uint16_t half)
{
    /* The exponent is moved to where a float has it by one product, which also puts subnormal numbers right. */
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13, sign = (uint32_t)(half & 0x8000) << 16;
    float value;
    memcpy(&value, &bits, 4);
    value *= 0x1p112f;
    memcpy(&bits, &value, 4);
    bits |= sign;
    memcpy(&value, &bits, 4);
    return value;
}

static void phrases_at(const int32_t *rows, Py_ssize_t at, unsigned bits, uint32_t *pair, uint32_t *triple)
{
    const uint64_t spread = 0x9E3779B97F4A7C15u, step = 1000003u;
    uint64_t here = rows[at], before = at > 0 ? rows[at - 1] : 0, first = at > 1 ? rows[at - 2] : 0;
    *pair = (uint32_t)((before * step + here) * spread >> (64 - bits));
    *triple = (uint32_t)(((first * step + before + 1) * step + here) * spread >> (64 - bits));
}

typedef float Eight __attribute__((vector_size(32)));

/* Dense layers with ReLU over `rows` inputs (at most `MOST_ROWS`) that begin `step` apart. Each weight that is read serves them
 * all, and the sums of `LANES` channels of each stay in registers. */
static INLINE void several(
    const float *inputs, Py_ssize_t step, const int rows, Py_ssize_t width, const float *weights, const float *bias,
    Py_ssize_t channels, float *made)
{
    for (Py_ssize_t block = 0; block < channels; block += LANES) {
        Eight low[MOST_ROWS], high[MOST_ROWS], left, right;
        memcpy(&left, bias + block, sizeof left);
        memcpy(&right, bias + block + LANES / 2, sizeof right);
        for (int row = 0; row < rows; row++)
            low[row] = left, high[row] = right;
        const float *column = weights + block;
        for (Py_ssize_t i = 0; i < width; i++, column += channels) {
            memcpy(&left, column, sizeof left);
            memcpy(&right, column + LANES / 2, sizeof right);
            for (int row = 0; row < rows; row++) {
                float input = inputs[row * step + i];
                low[row] += input * left;
                high[row] += input * right;
            }
        }
        for (int row = 0; row < rows; row++) {
            float *answer = made + row * channels + block;
            memcpy(answer, &low[row], sizeof left);
            memcpy(answer + LANES / 2, &high[row], sizeof right);
            for (int lane = 0; lane < LANES; lane++)
                answer[lane] = answer[lane] > 0 ? answer[lane] : 0;
        }
    }
}

/* The layer of `count` inputs, each `width` long and `step` from the one before, `rows` at a time. */
static INLINE void layer(
    const int rows, const float *inputs, Py_ssize_t step, Py_ssize_t count, Py_ssize_t width, const float *weights,
    const float *bias, Py_ssize_t channels, float *made)
{
    Py_ssize_t at = 0;
    for (; at + rows <= count; at += rows)
        several(inputs + at * step, step, rows, width, weights, bias, channels, made + at * channels);
    for (; at < count; at++)
        several(inputs + at * step, step, 1, width, weights, bias, channels, made + at * channels);
}

/* What the second convolution says at each of `count` tokens, two pads before and behind them. `answers` takes what the first
 * says at each and at one pad on either side, and behind that what the last three places add to it. */
static INLINE void convolved(const Net *self, const int at_once, const int32_t *rows, Py_ssize_t count, float *answers,
                             float *states)
{
    const Py_ssize_t channels = self->channels, width = 3 * channels;
    const int8_t *shares = self->arrays[SHARES].buf;
    const float *scales = self->arrays[SCALES].buf, *bias = self->arrays[FIRST_BIAS].buf;
    float *added = answers + (count + 2) * channels, *answer = answers;
    for (Py_ssize_t at = -2; at < count + 2; at++) {
        const Py_ssize_t row = at >= 0 && at < count ? rows[at] : PAD;
        const int8_t *share = shares + row * width;
        const float scale = scales[row];
        float *here = added + (at + 3) % 3 * width;
        for (Py_ssize_t i = 0; i < width; i++)
            here[i] = scale * (float)share[i];
        if (at < 0)
            continue;
        const float *first = added + (at + 1) % 3 * width, *second = added + (at + 2) % 3 * width + channels;
        for (Py_ssize_t i = 0; i < channels; i++) {
            float sum = bias[i] + first[i] + second[i] + here[2 * channels + i];
            answer[i] = sum > 0 ? sum : 0;
        }
        answer += channels;
    }
    layer(at_once, answers, channels, count, width, self->arrays[SECOND].buf, self->arrays[SECOND_BIAS].buf, channels, states);
}

/* The logit of a window of `count` states, `said` being what its phrases say. */
static INLINE float weighed(const Net *self, const float *states, Py_ssize_t count, float said, Py_ssize_t output, float *pooled)
{
    const Py_ssize_t channels = self->channels, hidden = self->hidden;
    float *answers = pooled + 2 * channels;
    const float *last = (const float *)self->arrays[LAST].buf + output;
    memcpy(pooled, states, channels * sizeof(float));
    memcpy(pooled + channels, states, channels * sizeof(float));
    for (Py_ssize_t at = 1; at < count; at++)
        for (Py_ssize_t i = 0; i < channels; i++) {
            float state = states[at * channels + i];
            pooled[i] = pooled[i] > state ? pooled[i] : state;
            pooled[channels + i] += state;
        }
    for (Py_ssize_t i = 0; i < channels; i++)
        pooled[channels + i] /= (float)count;
    layer(1, pooled, 0, 1, 2 * channels, self->arrays[DENSE].buf, self->arrays[DENSE_BIAS].buf, hidden, answers);
    float logit = ((const float *)self->arrays[LAST_BIAS].buf)[output] + said;
    for (Py_ssize_t i = 0; i < hidden; i++)
        logit += answers[i] * last[i * self->outputs];
    return logit;
}

static Py_ssize_t first_from(const int32_t *starts, Py_ssize_t count, int32_t position)
{
    Py_ssize_t low = 0, high = count;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (starts[middle] < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static INLINE void judge_by(const int at_once, const Net *self, const int32_t *rows, const int32_t *starts, Py_ssize_t tokens,
                            const int32_t *spans, Py_ssize_t windows, Py_ssize_t output, void *space, float *logits)
{
    const Py_ssize_t channels = self->channels;
    uint32_t *pairs = space, *triples = pairs + tokens;
    float *said = (float *)(triples + tokens), *states = said + tokens, *aside = states + (tokens + 1) * channels;
    const uint16_t *grams = (const uint16_t *)self->arrays[GRAMS].buf + (output << self->bits);
    const int8_t *shares = self->arrays[SHARES].buf;
    /* What is looked up lies far apart in tables larger than any near cache: it is fetched for all tokens together. */
    for (Py_ssize_t at = 0; at < tokens; at++) {
        const int8_t *share = shares + rows[at] * 3 * channels;
        phrases_at(rows, at, self->bits, pairs + at, triples + at);
        __builtin_prefetch(grams + pairs[at]);
        __builtin_prefetch(grams + triples[at]);
        __builtin_prefetch(share);
        __builtin_prefetch(share + 3 * channels - 1);
    }
    for (Py_ssize_t at = 0; at < tokens; at++)
        said[at] = widened(grams[pairs[at]]) + widened(grams[triples[at]]);
    convolved(self, at_once, rows, tokens, aside, states);
    for (Py_ssize_t window = 0; window < windows; window++) {
        Py_ssize_t low = first_from(starts, tokens, spans[2 * window]), high = first_from(starts, tokens, spans[2 * window + 1]);
        Py_ssize_t count = high > low ? high - low : 1; /* one without words is judged by the word after it, */
        if (low == tokens)
            convolved(self, at_once, &PAD, 1, aside, states + tokens * channels); /* or as an empty text, which is one pad */
        float sum = 0;
        for (Py_ssize_t at = low; at < high; at++)
            sum += said[at];
        logits[window] = weighed(self, states + low * channels, count, sum / sqrtf((float)count), output, aside);
    }
}

#define JUDGE(NAME, AT_ONCE, TARGET) \
    TARGET static void NAME(const Net *self, const int32_t *rows, const int32_t *starts, Py_ssize_t tokens, \
                            const int32_t *spans, Py_ssize_t windows, Py_ssize_t output, void *space, float *logits) \
    { \
        judge_by(AT_ONCE, self, rows, starts, tokens, spans, windows, output, space, logits); \
    }

JUDGE(judge_anywhere, 2, ) /* as many inputs at once as there are registers for */
#ifdef __x86_64__
JUDGE(judge_wide, 4, __attribute__((target("avx2,fma"))))
#endif

static void (*judge)(const Net *, const int32_t *, const int32_t *, Py_ssize_t, const int32_t *, Py_ssize_t, Py_ssize_t, void *,
                     float *) = judge_anywhere;

PyDoc_STRVAR(phrases_doc, "phrases(rows, bits: int) -> bytes\n\n"
    "Where the pair and the triple of words that end at each token stand in the table of phrases of 2 ** bits, int32 (2, tokens).");

static PyObject *net_phrases(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    Py_buffer rows;
    unsigned bits;
    if (!PyArg_ParseTuple(arguments, "y*I", &rows, &bits))
        return NULL;
    Py_ssize_t tokens = rows.len / 4;
    PyObject *made = NULL;
    if (bits < 1 || bits > MAX_BITS)
        PyErr_Format(PyExc_ValueError, "bits: wanted 1 to %d", MAX_BITS);
    else if ((made = PyBytes_FromStringAndSize(NULL, 2 * tokens * sizeof(uint32_t)))) {
        uint32_t *places = (uint32_t *)PyBytes_AS_STRING(made);
        for (Py_ssize_t at = 0; at < tokens; at++)
            phrases_at(rows.buf, at, bits, places + at, places + tokens + at);
    }
    PyBuffer_Release(&rows);
    return made;
}

PyDoc_STRVAR(logits_doc, "logits(rows, starts, spans, output: int) -> list[float]\n\n"
    "The logit of each window: rows and starts as `Vocabulary.read` gives them, spans int32 (windows, 2) in code points.");

static PyObject *net_logits(Net *self, PyObject *arguments)
{
    Py_buffer rows, starts, spans;
    Py_ssize_t output;
    PyObject *made = NULL;
    if (!PyArg_ParseTuple(arguments, "y*y*y*n", &rows, &starts, &spans, &output))
        return NULL;
    Py_ssize_t tokens = rows.len / 4, windows = spans.len / 8;
    float *space = NULL;
    if (starts.len != rows.len || output < 0 || output >= self->outputs) {
        PyErr_SetString(PyExc_ValueError, "rows and starts must be of one length, and the output one of the net's");
        goto done;
    }
    const int32_t *row = rows.buf;
    for (Py_ssize_t at = 0; at < tokens; at++)
        if (row[at] < 0 || row[at] >= self->rows) {
            PyErr_Format(PyExc_ValueError, "row %d: the table has none such", row[at]);
            goto done;
        }
    /* Of an empty text, too, there are three answers; where those stand, windows are pooled in turn. */
    Py_ssize_t answers = ((tokens > 1 ? tokens : 1) + 2 + 9) * self->channels, pooled = 2 * self->channels + self->hidden;
    space = PyMem_Malloc(sizeof(float) * (windows + 3 * tokens + (tokens + 1) * self->channels
                                          + (answers > pooled ? answers : pooled)));
    if (!space) {
        PyErr_NoMemory();
        goto done;
    }
    float *logits = space, *rest = space + windows;
    if (tokens >= PARALLEL) {
        Py_BEGIN_ALLOW_THREADS
        judge(self, row, starts.buf, tokens, spans.buf, windows, output, rest, logits);
        Py_END_ALLOW_THREADS
    } else
        judge(self, row, starts.buf, tokens, spans.buf, windows, output, rest, logits);
    made = PyList_New(windows);
    for (Py_ssize_t window = 0; made && window < windows; window++) {
        PyObject *logit = PyFloat_FromDouble(logits[window]);
        if (!logit)
            Py_CLEAR(made);
        else
            PyList_SET_ITEM(made, window, logit);
    }
done:
    PyMem_Free(space);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&spans);
    return made;
}

static int matrix(Net *self, int which, const char *name, PyObject *array, Py_ssize_t item, Py_ssize_t rows, Py_ssize_t columns)
{
    Py_buffer *held = &self->arrays[which];
    if (PyObject_GetBuffer(array, held, PyBUF_C_CONTIGUOUS) < 0)
        return -1;
    if (held->itemsize == item && held->len == item * rows * columns)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: wanted %zd x %zd numbers of %zd bytes", name, rows, columns, item);
    return -1;
}

static void net_dealloc(Net *self)
{
    for (int which = 0; which < ARRAYS; which++)
        PyBuffer_Release(&self->arrays[which]);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

PyDoc_STRVAR(net_doc, "Net(bits, rows, channels, hidden, outputs, shares, scales, grams, first_bias, second, second_bias, dense, dense_bias,\n"
    "    last, last_bias)\n\n"
    "The shares, int8 (rows, 3, channels), times the scales, float32 (rows,), are what each row adds to the first convolution as\n"
    "the first, second and third of three. Grams are float16, the others float32, shapes as `detectors.semantic.fast.FastModel`\n"
    "has them.\n"
    "Raises ValueError where one has another size.");

static PyObject *net_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *array[ARRAYS];
    unsigned bits;
    Py_ssize_t rows, h, k, outputs;
    if (keywords && PyDict_GET_SIZE(keywords)) {
        PyErr_SetString(PyExc_TypeError, "Net takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "InnnnOOOOOOOOOO", &bits, &rows, &h, &k, &outputs, &array[0], &array[1], &array[2],
                          &array[3], &array[4], &array[5], &array[6], &array[7], &array[8], &array[9]))
        return NULL;
    if (h < LANES || h % LANES || k < LANES || k % LANES || outputs < 1 || h > MAX_SIDE || k > MAX_SIDE
        || outputs > MAX_SIDE || rows < 1 || rows > INT32_MAX || bits < 1 || bits > MAX_BITS) {
        PyErr_Format(PyExc_ValueError, "channels and hidden units: wanted multiples of %d; sides: at most %d", LANES, MAX_SIDE);
        return NULL;
    }
    Net *self = (Net *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->bits = bits, self->rows = rows;
    self->channels = h, self->hidden = k, self->outputs = outputs;
    if (matrix(self, SHARES, "shares", array[SHARES], 1, rows, 3 * h) < 0
        || matrix(self, SCALES, "scales", array[SCALES], 4, 1, rows) < 0
        || matrix(self, GRAMS, "grams", array[GRAMS], 2, outputs, (Py_ssize_t)1 << bits) < 0
        || matrix(self, FIRST_BIAS, "first_bias", array[FIRST_BIAS], 4, 1, h) < 0
        || matrix(self, SECOND, "second", array[SECOND], 4, 3 * h, h) < 0
        || matrix(self, SECOND_BIAS, "second_bias", array[SECOND_BIAS], 4, 1, h) < 0
        || matrix(self, DENSE, "dense", array[DENSE], 4, 2 * h, k) < 0
        || matrix(self, DENSE_BIAS, "dense_bias", array[DENSE_BIAS], 4, 1, k) < 0
        || matrix(self, LAST, "last", array[LAST], 4, k, outputs) < 0
        || matrix(self, LAST_BIAS, "last_bias", array[LAST_BIAS], 4, 1, outputs) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef net_methods[] = {
    {"logits", (PyCFunction)net_logits, METH_VARARGS, logits_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject NetType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "detectors.semantic._net.Net",
    .tp_basicsize = sizeof(Net),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = net_doc,
    .tp_new = net_new,
    .tp_dealloc = (destructor)net_dealloc,
    .tp_methods = net_methods,
};

static PyMethodDef functions[] = {
    {"phrases", net_phrases, METH_VARARGS, phrases_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "detectors.semantic._net",
    .m_doc = "Rows to logits; see `detectors.semantic.fast`.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__net(void)
{
    PyObject *made;
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        judge = judge_wide;
#endif
    if (PyType_Ready(&NetType) < 0 || !(made = PyModule_Create(&module)))
        return NULL;
    if (PyModule_AddObjectRef(made, "Net", (PyObject *)&NetType) < 0)
        Py_CLEAR(made);
    return made;
}
