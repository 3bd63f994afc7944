/* Words to rows of a table of vectors: `detectors.semantic.fast` says what it means.
 *
 * Reading a text of ASCII here takes a tenth of what Python's expressions and dictionaries take, and no memory for words met.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define MAX_WORD 24 /* longer runs of letters are all one word; as in fast.py */
#define STEM 5      /* characters by which an unknown word finds its row */

#define LONG 4096 /* characters from which on other threads are let on meanwhile */

#define ROW_BITS 20 /* of a slot; the others are of the word's hash, so that one look into memory tells a word */
#define ROW ((1u << ROW_BITS) - 1)

typedef struct {
    PyObject_HEAD
    uint64_t *slots; /* 0 where nothing lies: row 0 is the pad's */
    uint32_t mask, known, buckets;
} Vocabulary;

static uint64_t hashed(const char *word, Py_ssize_t length)
{
    uint64_t hash = 14695981039346656037u;
    for (Py_ssize_t at = 0; at < length; at++)
        hash = (hash ^ (uint8_t)word[at]) * 1099511628211u;
    hash = (hash ^ hash >> 32) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 32;
}

static uint32_t crc32(const char *data, Py_ssize_t length)
{
    uint32_t crc = ~0u;
    for (Py_ssize_t at = 0; at < length; at++) {
        crc ^= (uint8_t)data[at];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xEDB88320u & -(crc & 1));
    }
    return ~crc;
}

/* The row of an unknown word, by its first characters. */
static uint32_t shared(const Vocabulary *self, const char *word, Py_ssize_t length)
{
    Py_ssize_t stem = 0;
    for (int characters = 0; stem < length; stem++)
        if ((word[stem] & 0xC0) != 0x80 && characters++ == STEM)
            break;
    return 1 + self->known + crc32(word, stem) % self->buckets;
}

/* The row of a word, 0 where it is unknown. */
static uint32_t known(const Vocabulary *self, uint64_t hash)
{
    for (uint32_t at = (uint32_t)hash & self->mask; self->slots[at]; at = (at + 1) & self->mask)
        if (!((self->slots[at] ^ hash) >> ROW_BITS))
            return self->slots[at] & ROW;
    return 0;
}

static uint32_t found(const Vocabulary *self, const char *word, Py_ssize_t length)
{
    uint32_t row = known(self, hashed(word, length));
    return row ? row : shared(self, word, length);
}

enum { SPACE, LETTER, DIGIT, MARK };

static int sort(uint8_t code)
{
    if (code >= '0' && code <= '9')
        return DIGIT;
    if ((code | 0x20) >= 'a' && (code | 0x20) <= 'z')
        return LETTER;
    return code == ' ' || (code >= '\t' && code <= '\r') || (code >= 0x1c && code <= 0x1f) ? SPACE : MARK;
}

/* A token as the vocabulary has it: lower case, numbers by their length, blobs all alike. Returns its length. */
static Py_ssize_t normal(const char *token, Py_ssize_t length, int digits, char *word)
{
    if (length > MAX_WORD) {
        memcpy(word, "\0long", 5);
        return 5;
    }
    if (digits) {
        Py_ssize_t nines = length < 5 ? length : 5;
        word[0] = 0;
        memset(word + 1, '9', nines);
        return nines + 1;
    }
    for (Py_ssize_t at = 0; at < length && at < MAX_WORD; at++) /* said twice, for the compiler */
        word[at] = token[at] | (token[at] >= 'A' && token[at] <= 'Z' ? 0x20 : 0);
    return length;
}

PyDoc_STRVAR(read_doc, "read(text: str) -> tuple[bytes, bytes]\n\n"
    "Rows of the words and marks of an ASCII text, and where each begins, both int32 (tokens,).");

static PyObject *vocabulary_read(Vocabulary *self, PyObject *text)
{
    if (!PyUnicode_Check(text) || !PyUnicode_IS_ASCII(text)) {
        PyErr_SetString(PyExc_ValueError, "the text must be ASCII");
        return NULL;
    }
    const char *data = (const char *)PyUnicode_1BYTE_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text), room = 1, tokens = 0;
    PyThreadState *held = length > LONG ? PyEval_SaveThread() : NULL; /* the caller keeps the text */
    for (Py_ssize_t at = 0, last = SPACE; at < length; at++) {
        int kind = sort((uint8_t)data[at]);
        room += kind == MARK || (kind != SPACE && last != LETTER && last != DIGIT);
        last = kind;
    }
    uint64_t *hashes = PyMem_RawMalloc((sizeof(uint64_t) + 3 * sizeof(int32_t)) * room);
    if (!hashes) {
        if (held)
            PyEval_RestoreThread(held);
        return PyErr_NoMemory();
    }
    int32_t *rows = (int32_t *)(hashes + room), *starts = rows + room, *ends = starts + room;
    char word[MAX_WORD];
    for (Py_ssize_t at = 0; at < length;) {
        int kind = sort((uint8_t)data[at]);
        Py_ssize_t start = at++;
        if (kind == SPACE)
            continue;
        int digits = kind == DIGIT;
        if (kind != MARK)
            for (int next; at < length && ((next = sort((uint8_t)data[at])) == LETTER || next == DIGIT); at++)
                digits &= next == DIGIT;
        hashes[tokens] = hashed(word, normal(data + start, at - start, digits, word));
        __builtin_prefetch(self->slots + (hashes[tokens] & self->mask)); /* all are waited for together */
        starts[tokens] = (int32_t)start;
        ends[tokens++] = (int32_t)(digits ? -at : at);
    }
    for (Py_ssize_t token = 0; token < tokens; token++)
        if (!(rows[token] = (int32_t)known(self, hashes[token]))) {
            int digits = ends[token] < 0;
            Py_ssize_t start = starts[token], end = digits ? -ends[token] : ends[token];
            rows[token] = (int32_t)shared(self, word, normal(data + start, end - start, digits, word));
        }
    if (held)
        PyEval_RestoreThread(held);
    PyObject *made = Py_BuildValue("(y#y#)", rows, tokens * sizeof(int32_t), starts, tokens * sizeof(int32_t));
    PyMem_RawFree(hashes);
    return made;
}

PyDoc_STRVAR(row_doc, "row(word: bytes) -> int\n\nRow of a word that is as the vocabulary has it, in UTF-8.");

static PyObject *vocabulary_row(Vocabulary *self, PyObject *word)
{
    char *data;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(word, &data, &length) < 0)
        return NULL;
    return PyLong_FromLong(found(self, data, length));
}

static int learn(Vocabulary *self, const char *all, Py_ssize_t length)
{
    Py_ssize_t count = 1, capacity = 2;
    for (Py_ssize_t at = 0; at < length; at++)
        count += all[at] == '\n';
    if (count > (Py_ssize_t)ROW) {
        PyErr_Format(PyExc_ValueError, "words: wanted at most %u", ROW);
        return -1;
    }
    while (capacity < 2 * count)
        capacity *= 2;
    self->known = (uint32_t)count;
    self->mask = (uint32_t)capacity - 1;
    self->slots = PyMem_Calloc(capacity, sizeof(uint64_t));
    if (!self->slots) {
        PyErr_NoMemory();
        return -1;
    }
    const char *start = all, *end;
    for (uint32_t row = 1; row <= count; row++, start = end + 1) {
        end = memchr(start, '\n', all + length - start);
        end = end ? end : all + length;
        uint64_t hash = hashed(start, end - start);
        if (known(self, hash)) {
            PyErr_Format(PyExc_ValueError, "words: %u and %u are the same", known(self, hash), row);
            return -1;
        }
        uint32_t at = (uint32_t)hash & self->mask;
        while (self->slots[at])
            at = (at + 1) & self->mask;
        self->slots[at] = (hash >> ROW_BITS << ROW_BITS) | row;
    }
    return 0;
}

static void vocabulary_dealloc(Vocabulary *self)
{
    PyMem_Free(self->slots);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

PyDoc_STRVAR(vocabulary_doc, "Vocabulary(words: bytes, buckets: int)\n\n"
    "Words in UTF-8, one a line, of rows 1 and on; behind them are the rows that unknown words share by how they begin.\n"
    "Raises ValueError where a word stands there twice, or there are too many.");

static PyObject *vocabulary_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    const char *words;
    Py_ssize_t length;
    unsigned buckets;
    if (keywords && PyDict_GET_SIZE(keywords)) {
        PyErr_SetString(PyExc_TypeError, "Vocabulary takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "y#I", &words, &length, &buckets))
        return NULL;
    if (!buckets || buckets > ROW) {
        PyErr_Format(PyExc_ValueError, "buckets: wanted 1 to %u", ROW);
        return NULL;
    }
    Vocabulary *self = (Vocabulary *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->buckets = buckets;
    if (learn(self, words, length) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef vocabulary_methods[] = {
    {"read", (PyCFunction)vocabulary_read, METH_O, read_doc},
    {"row", (PyCFunction)vocabulary_row, METH_O, row_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject VocabularyType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "detectors.semantic._words.Vocabulary",
    .tp_basicsize = sizeof(Vocabulary),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = vocabulary_doc,
    .tp_new = vocabulary_new,
    .tp_dealloc = (destructor)vocabulary_dealloc,
    .tp_methods = vocabulary_methods,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "detectors.semantic._words",
    .m_doc = "Words to rows; see `detectors.semantic.fast`.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__words(void)
{
    PyObject *made;
    if (PyType_Ready(&VocabularyType) < 0 || !(made = PyModule_Create(&module)))
        return NULL;
    if (PyModule_AddObjectRef(made, "Vocabulary", (PyObject *)&VocabularyType) < 0)
        Py_CLEAR(made);
    return made;
}
