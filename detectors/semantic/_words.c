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

typedef struct {
    uint32_t hash;
    uint32_t row; /* 0 where nothing lies: row 0 is the pad's */
} Slot;

typedef struct {
    PyObject_HEAD
    Py_buffer words; /* one a line; word n is of row n, counted from 1 */
    uint32_t *ends;  /* where word n ends, at n - 1; it begins one after the end of the word before */
    Slot *slots;
    uint32_t mask, known, buckets;
} Vocabulary;

static uint32_t hashed(const char *word, Py_ssize_t length)
{
    uint32_t hash = 2166136261u;
    for (Py_ssize_t at = 0; at < length; at++)
        hash = (hash ^ (uint8_t)word[at]) * 16777619u;
    return hash ^ hash >> 15;
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

static uint32_t found(const Vocabulary *self, const char *word, Py_ssize_t length)
{
    uint32_t hash = hashed(word, length);
    const char *all = self->words.buf;
    for (uint32_t at = hash & self->mask; self->slots[at].row; at = (at + 1) & self->mask) {
        uint32_t row = self->slots[at].row, start = row > 1 ? self->ends[row - 2] + 1 : 0;
        if (self->slots[at].hash == hash && self->ends[row - 1] - start == length && !memcmp(all + start, word, length))
            return row;
    }
    Py_ssize_t stem = 0;
    for (int characters = 0; stem < length; stem++)
        if ((word[stem] & 0xC0) != 0x80 && characters++ == STEM)
            break;
    return 1 + self->known + crc32(word, stem) % self->buckets;
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

static uint32_t row_of(const Vocabulary *self, const char *token, Py_ssize_t length, int digits)
{
    char word[MAX_WORD];
    if (length > MAX_WORD)
        return found(self, "\0long", 5);
    if (digits) {
        Py_ssize_t nines = length < 5 ? length : 5;
        word[0] = 0;
        memset(word + 1, '9', nines);
        return found(self, word, nines + 1);
    }
    for (Py_ssize_t at = 0; at < length && at < MAX_WORD; at++) /* said twice, for the compiler */
        word[at] = token[at] | (token[at] >= 'A' && token[at] <= 'Z' ? 0x20 : 0);
    return found(self, word, length);
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
    Py_ssize_t length = PyUnicode_GET_LENGTH(text), tokens = 0;
    int32_t *rows = PyMem_Malloc(2 * sizeof(int32_t) * (length + 1)), *starts = rows + length + 1;
    if (!rows)
        return PyErr_NoMemory();
    for (Py_ssize_t at = 0; at < length;) {
        int kind = sort((uint8_t)data[at]);
        Py_ssize_t start = at++;
        if (kind == SPACE)
            continue;
        int digits = kind == DIGIT;
        if (kind != MARK)
            for (int next; at < length && ((next = sort((uint8_t)data[at])) == LETTER || next == DIGIT); at++)
                digits &= next == DIGIT;
        starts[tokens] = (int32_t)start;
        rows[tokens++] = (int32_t)row_of(self, data + start, at - start, digits);
    }
    PyObject *made = Py_BuildValue("(y#y#)", rows, tokens * sizeof(int32_t), starts, tokens * sizeof(int32_t));
    PyMem_Free(rows);
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

static int learn(Vocabulary *self)
{
    const char *all = self->words.buf;
    uint32_t count = 1, capacity = 2;
    for (Py_ssize_t at = 0; at < self->words.len; at++)
        count += all[at] == '\n';
    while (capacity < 2 * count)
        capacity *= 2;
    self->known = count;
    self->mask = capacity - 1;
    self->ends = PyMem_Malloc(sizeof(uint32_t) * count);
    self->slots = PyMem_Calloc(capacity, sizeof(Slot));
    if (!self->ends || !self->slots) {
        PyErr_NoMemory();
        return -1;
    }
    uint32_t start = 0;
    for (uint32_t row = 1; row <= count; row++) {
        uint32_t end = start;
        while (end < self->words.len && all[end] != '\n')
            end++;
        uint32_t hash = hashed(all + start, end - start), at = hash & self->mask;
        while (self->slots[at].row)
            at = (at + 1) & self->mask;
        self->slots[at] = (Slot){hash, row};
        self->ends[row - 1] = end;
        start = end + 1;
    }
    return 0;
}

static void vocabulary_dealloc(Vocabulary *self)
{
    PyBuffer_Release(&self->words);
    PyMem_Free(self->ends);
    PyMem_Free(self->slots);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

PyDoc_STRVAR(vocabulary_doc, "Vocabulary(words: bytes, buckets: int)\n\n"
    "Words in UTF-8, one a line, of rows 1 and on; behind them are the rows that unknown words share by how they begin.");

static PyObject *vocabulary_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *words;
    unsigned buckets;
    if (keywords && PyDict_GET_SIZE(keywords)) {
        PyErr_SetString(PyExc_TypeError, "Vocabulary takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "SI", &words, &buckets))
        return NULL;
    if (!buckets || PyBytes_GET_SIZE(words) > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "buckets: wanted at least 1, and words below 2 GB");
        return NULL;
    }
    Vocabulary *self = (Vocabulary *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->buckets = buckets;
    if (PyObject_GetBuffer(words, &self->words, PyBUF_SIMPLE) < 0 || learn(self) < 0) {
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
