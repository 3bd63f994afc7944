/* Overlapping windows over a long text: `detectors.semantic.windows` says what they are. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

typedef struct {
    int kind;
    const void *data;
} Text;

static Py_UCS4 code(Text text, Py_ssize_t at)
{
    return PyUnicode_READ(text.kind, text.data, at);
}

static int space(Text text, Py_ssize_t at)
{
    return Py_UNICODE_ISSPACE(code(text, at));
}

/* What ends a sentence without a space behind it. */
static int ends_alone(Py_UCS4 c)
{
    return c == 0x3002 || c == 0xFF01 || c == 0xFF1F; /* ideographic full stop, exclamation and question mark */
}

static int ends(Py_UCS4 c)
{
    return c == '.' || c == '!' || c == '?' || ends_alone(c) || c == 0x061F || c == 0x0964; /* Arabic ?, danda */
}

static int closes(Py_UCS4 c)
{
    return c == '"' || c == '\'' || c == ')' || c == ']' || c == 0x00BB || c == 0x201D;
}

/* Where the last sentence of a stretch ends, its white space included, or its last word, or else the stretch. */
static Py_ssize_t last_boundary(Text text, Py_ssize_t start, Py_ssize_t end)
{
    for (Py_ssize_t at = end; at-- > start;) {
        Py_UCS4 c = code(text, at);
        if (c == '\n')
            return at + 1;
        if (!ends(c))
            continue;
        Py_ssize_t next = at + 1;
        while (next < end && closes(code(text, next)))
            next++;
        if (next < end && space(text, next)) {
            while (next < end && space(text, next))
                next++;
            return next;
        }
        if (ends_alone(c))
            return at + 1;
    }
    for (Py_ssize_t at = end; at-- > start;)
        if (space(text, at))
            return at + 1;
    return end;
}

typedef struct {
    int32_t *at; /* start and end of each */
    Py_ssize_t count, room;
} Spans;

static int append(Spans *spans, Py_ssize_t start, Py_ssize_t end)
{
    if (spans->count == spans->room) {
        Py_ssize_t room = spans->room ? 2 * spans->room : 64;
        int32_t *grown = PyMem_Realloc(spans->at, room * 2 * sizeof *grown);
        if (!grown) {
            PyErr_NoMemory();
            return -1;
        }
        spans->at = grown, spans->room = room;
    }
    spans->at[2 * spans->count] = (int32_t)start, spans->at[2 * spans->count + 1] = (int32_t)end;
    spans->count++;
    return 0;
}

static Py_ssize_t most(Py_ssize_t one, Py_ssize_t other)
{
    return one > other ? one : other;
}

/* The windows of code points `start`..`length` of a text. */
static int cut(Text text, Py_ssize_t start, Py_ssize_t length, Py_ssize_t window, Py_ssize_t overlap, Spans *spans)
{
    for (;;) {
        Py_ssize_t end = length;
        if (length - start > window)
            end = last_boundary(text, start + window * 2 / 3, start + window);
        if (append(spans, start, end) < 0)
            return -1;
        if (end == length)
            return 0;
        Py_ssize_t wanted = most(end - overlap, start + 1);
        start = last_boundary(text, most(wanted - overlap / 3, start + 1), wanted);
    }
}

static int sizes_fit(Py_ssize_t window, Py_ssize_t overlap)
{
    if (overlap >= 1 && window / 3 >= overlap)
        return 1;
    PyErr_Format(PyExc_ValueError, "window and overlap: got %zd and %zd; wanted a window of three overlaps or more", window,
                 overlap);
    return 0;
}

static int text_fits(PyObject *whole)
{
    if (PyUnicode_GET_LENGTH(whole) <= INT32_MAX)
        return 1;
    PyErr_SetString(PyExc_ValueError, "a text of 2 ** 31 code points or more");
    return 0;
}

PyDoc_STRVAR(spans_doc, "spans(text: str, window: int, overlap: int) -> list[tuple[int, int]]\n\n"
    "The windows of a text, in code points. Raises ValueError where a window would not be three times its overlap.");

static PyObject *spans(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *whole, *made = NULL;
    Py_ssize_t window, overlap;
    if (!PyArg_ParseTuple(arguments, "Unn", &whole, &window, &overlap) || !sizes_fit(window, overlap) || !text_fits(whole))
        return NULL;
    Text text = {PyUnicode_KIND(whole), PyUnicode_DATA(whole)};
    Spans found = {0};
    if (cut(text, 0, PyUnicode_GET_LENGTH(whole), window, overlap, &found) == 0 && (made = PyList_New(found.count)))
        for (Py_ssize_t at = 0; made && at < found.count; at++) {
            PyObject *pair = Py_BuildValue("(ii)", found.at[2 * at], found.at[2 * at + 1]);
            if (pair)
                PyList_SET_ITEM(made, at, pair);
            else
                Py_CLEAR(made);
        }
    PyMem_Free(found.at);
    return made;
}

PyDoc_STRVAR(parted_doc, "parted(text: str, windows: Sequence[tuple[int, int]], part: int, overlap: int, least: int)\n"
    "    -> tuple[bytes, list[int]]\n\n"
    "Each window and behind it its parts, its own windows of that size; one of fewer than `least` code points has none:\n"
    "int32 (pieces, 2), in code points of the text. And where in these each window stands, and how many there are.\n"
    "Raises ValueError where a part would not be three times its overlap, or a window does not lie in the text.");

static PyObject *parted(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *whole, *given, *windows, *places = NULL, *bytes = NULL, *made = NULL;
    Py_ssize_t part, overlap, least;
    if (!PyArg_ParseTuple(arguments, "UOnnn", &whole, &given, &part, &overlap, &least) || !sizes_fit(part, overlap)
        || !text_fits(whole) || !(windows = PySequence_Fast(given, "windows: wanted a sequence")))
        return NULL;
    Text text = {PyUnicode_KIND(whole), PyUnicode_DATA(whole)};
    Py_ssize_t length = PyUnicode_GET_LENGTH(whole), count = PySequence_Fast_GET_SIZE(windows);
    Spans found = {0};
    if (!(places = PyList_New(count + 1)))
        goto done;
    for (Py_ssize_t at = 0; at <= count; at++) {
        PyObject *place = PyLong_FromSsize_t(found.count);
        if (!place)
            goto done;
        PyList_SET_ITEM(places, at, place);
        if (at == count)
            break;
        Py_ssize_t start, end;
        if (!PyArg_ParseTuple(PySequence_Fast_GET_ITEM(windows, at), "nn", &start, &end))
            goto done;
        if (start < 0 || start > end || end > length) {
            PyErr_Format(PyExc_ValueError, "window %zd..%zd: the text has %zd code points", start, end, length);
            goto done;
        }
        if (append(&found, start, end) < 0 || (end - start >= least && cut(text, start, end, part, overlap, &found) < 0))
            goto done;
    }
    if ((bytes = PyBytes_FromStringAndSize((const char *)found.at, found.count * 2 * sizeof *found.at)))
        made = PyTuple_Pack(2, bytes, places);
done:
    PyMem_Free(found.at);
    Py_XDECREF(bytes);
    Py_XDECREF(places);
    Py_DECREF(windows);
    return made;
}

static PyMethodDef methods[] = {
    {"spans", spans, METH_VARARGS, spans_doc},
    {"parted", parted, METH_VARARGS, parted_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "detectors.semantic._windows",
    .m_doc = "Overlapping windows over a long text; see `detectors.semantic.windows`.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__windows(void)
{
    return PyModule_Create(&module);
}
