/* Overlapping windows over a long text: `detectors.semantic.windows` says what they are. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

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

static int append(PyObject *found, Py_ssize_t start, Py_ssize_t end)
{
    PyObject *pair = Py_BuildValue("(nn)", start, end);
    int failed = !pair || PyList_Append(found, pair) < 0;
    Py_XDECREF(pair);
    return failed ? -1 : 0;
}

static Py_ssize_t most(Py_ssize_t one, Py_ssize_t other)
{
    return one > other ? one : other;
}

PyDoc_STRVAR(spans_doc, "spans(text: str, window: int, overlap: int) -> list[tuple[int, int]]\n\n"
    "The windows of a text, in code points. Raises ValueError where a window would not be three times its overlap.");

static PyObject *spans(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *whole;
    Py_ssize_t window, overlap;
    if (!PyArg_ParseTuple(arguments, "Unn", &whole, &window, &overlap))
        return NULL;
    if (overlap < 1 || window / 3 < overlap) {
        PyErr_Format(PyExc_ValueError, "window and overlap: got %zd and %zd; wanted a window of three overlaps or more", window,
                     overlap);
        return NULL;
    }
    Text text = {PyUnicode_KIND(whole), PyUnicode_DATA(whole)};
    Py_ssize_t length = PyUnicode_GET_LENGTH(whole), start = 0;
    PyObject *found = PyList_New(0);
    while (found) {
        Py_ssize_t end = length;
        if (length - start > window)
            end = last_boundary(text, start + window * 2 / 3, start + window);
        if (append(found, start, end) < 0)
            Py_CLEAR(found);
        if (end == length)
            break;
        Py_ssize_t wanted = most(end - overlap, start + 1);
        start = last_boundary(text, most(wanted - overlap / 3, start + 1), wanted);
    }
    return found;
}

static PyMethodDef methods[] = {
    {"spans", spans, METH_VARARGS, spans_doc},
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
