/* What an ASCII text may hold, in one pass: the probes of `detectors.canonical` and `detectors.decode.gate` are asked only where
 * a sign says that they may find something. A sign may be given in vain, and must never be missing; the tests hold it to that.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <ctype.h>
#include <stdint.h>
#include <string.h>

enum { CONTROLS = 1, GAPS = 2, ODD = 4, ESCAPES = 8, MARKS = 16, ALL = 31 };

/* Kinds of characters. */
enum {
    LOWER = 1, UPPER = 2, DIGIT = 4, HEX = 8, /* of the upper case */
    BLANK = 16,                               /* as \s of an expression */
    RUN = 32,                                 /* what base64 and its kin are made of */
    SIGN = 64,                                /* what Morse is made of */
    PARTS = 128,                              /* what may part two words of the radio alphabet */
    PARTS_NUMBERS = 256, PARTS_SIGNS = 512, IN_WORD = 1024, CONTROL = 2048, BEGINS = 4096, SEEN = 8192,
    WRAPS = 16384,                            /* of markup and quotations */
};
#define LETTER (LOWER | UPPER)
#define ALNUM (LETTER | DIGIT)

enum { LONG_RUN = 16, LONG_SOLID = 25, MANY_SIGNS = 7, ALONE = 4, RADIO = 2, WRAPPED = 4, FEW = 2, NUMBERED = 7 };

/* Words from one in "ay" to the next one, itself counted, that pig latin has at most. */
enum { OTHERS = 2 };

static uint16_t kinds[128];

static const char *const radio[26][3] = {
    {"alfa", "alpha"}, {"bravo"}, {"charlie"}, {"delta"}, {"echo"}, {"foxtrot"}, {"golf"}, {"hotel"}, {"india"},
    {"juliett", "juliet"}, {"kilo"}, {"lima"}, {"mike"}, {"november"}, {"oscar"}, {"papa"}, {"quebec"}, {"romeo"}, {"sierra"},
    {"tango"}, {"uniform"}, {"victor"}, {"whiskey", "whisky"}, {"xray"}, {"yankee"}, {"zulu"},
};

static void mark(const char *characters, int kind)
{
    for (; *characters; characters++)
        kinds[(uint8_t)*characters] |= kind;
}

static void learn(void)
{
    for (int at = 0; at < 128; at++) {
        kinds[at] = (at >= 'a' && at <= 'z' ? LOWER | RUN : 0) | (at >= 'A' && at <= 'Z' ? UPPER | RUN : 0)
                  | (at >= '0' && at <= '9' ? DIGIT | HEX | RUN : 0) | (at >= 'A' && at <= 'F' ? HEX : 0)
                  | (at > ' ' && at < 127 ? SEEN : 0);
        if ((at < ' ' && at != '\t' && at != '\n' && at != '\r') || at == 127)
            kinds[at] |= CONTROL;
    }
    mark(" \t\n\v\f\r", BLANK | PARTS | PARTS_NUMBERS);
    mark(",:;-./", PARTS | PARTS_NUMBERS);
    mark("_\"'", PARTS_NUMBERS);
    mark("+/_-", RUN);
    mark(".*_-", SIGN);
    mark(" /|\n", PARTS_SIGNS);
    mark("013457$", IN_WORD);
    mark("%&\\=\"'+_(", BEGINS);
    mark("*_~`\"'()[]{}<>|", WRAPS);
}

static int is_radio(const char *word, Py_ssize_t length)
{
    const char *const *known = radio[(word[0] | 32) - 'a'];
    for (int at = 0; at < 3 && known[at]; at++) {
        Py_ssize_t same = 0;
        while (same < length && known[at][same] == (word[same] | 32))
            same++;
        if (same == length && !known[at][same])
            return 1;
    }
    return 0;
}

static const char *after_blanks(const char *at, const char *end)
{
    while (at < end && kinds[(uint8_t)*at] & BLANK)
        at++;
    return at;
}

/* Whether a quotation ends here, and the next one begins behind what joins the two. */
static int joins(const char *at, const char *end)
{
    at = after_blanks(at + 1, end);
    if (at == end || !strchr("+.&|", *at))
        return 0;
    at++;
    if (at < end && (*at == '.' || *at == '|'))
        at++;
    at = after_blanks(at, end);
    return at < end && (*at == '"' || *at == '\'');
}

/* Whether a letter in quotation marks begins here, in a list. */
static int letter(const char *at, const char *end)
{
    if (end - at < 4 || at[2] != *at)
        return 0;
    at = after_blanks(at + 3, end);
    return at < end && *at == ',';
}

/* Whether an escape, or what looks like one, begins at a character of the kind BEGINS. */
static int escapes(const char *start, const char *at, const char *end)
{
    switch (*at) {
    case '%':
        return end - at > 2 && isxdigit((uint8_t)at[1]) && isxdigit((uint8_t)at[2]);
    case '=': /* of quoted-printable; or a word in base64 ends */
        return (at > start && end - at > 2 && (kinds[(uint8_t)at[-1]] & ALNUM || at[-1] == '=')
                && (kinds[(uint8_t)at[1]] & BLANK || strchr(",;|\"'", at[1])))
            || (end - at > 2
            && (at[1] == '\n' || at[1] == '\r'
                || (end - at > 3 && kinds[(uint8_t)at[1]] & HEX && kinds[(uint8_t)at[2]] & HEX && at[3] == '=')));
    case '+': /* of a code point, or between the words of a field */
        return at > start && at[-1] > ' ' && end - at > 1 && kinds[(uint8_t)at[1]] & ALNUM;
    case '_': /* of Markdown: before a word */
        return (at == start || !(kinds[(uint8_t)at[-1]] & ALNUM || at[-1] == '_'))
            && end - at > 8 && (kinds[(uint8_t)at[1]] & ALNUM || at[1] == '_' || at[1] == '+');
    case '(': /* of a call that gives a character */
        if (at > start && (kinds[(uint8_t)at[-1]] & LETTER || at[-1] == '$') && end - at > 1) {
            char next = at[1] == ' ' && end - at > 2 ? at[2] : at[1];
            return (next >= '0' && next <= '9') || next == '&' || next == '\\';
        }
        return 0;
    case '"':
    case '\'':
        return joins(at, end) || letter(at, end);
    default: /* what begins with an ampersand or a backslash is seldom anything else */
        return 1;
    }
}

static int look(const char *start, const char *end)
{
    int found = 0, previous = 0;
    Py_ssize_t run = 0, solid = 0; /* characters of the kind in a row */
    int number = 0;                /* 1: behind a digit; from 2 on: behind as many less one that may part numbers */
    int inside = 0;                /* 1: behind a letter; 2: behind figures in a word */
    int signs = 0;                 /* groups of signs in a row */
    int alone = 0, gap = 0;        /* letters that stand alone in a row; characters that are none, since the last, up to 4 */
    int wide = 0;                  /* whether the gap is of blanks only */
    int words = 0;                 /* words of the radio alphabet in a row */
    int marked = 0, wrapped = 0;   /* whether a mark came since the last word; words before which one did, few others between */
    int apart = 0, open = 0;       /* those others; 1: within a tag, 2: within a comment */
    int digits = 0, numbered = 0;  /* whether a figure came since the last word; words in a row before which one did */
    int since = 1 << 20;           /* words since the last that ends in "ay" */
    const char *at = start;
    while (at < end) {
        int kind = kinds[(uint8_t)*at];
        if (kind & ALNUM && !(previous & ALNUM)) {
            if (gap >= 2 && wide)
                found |= GAPS;
            alone = gap && gap <= 3 ? alone + 1 : 1;
            gap = 0;
        } else if (kind & ALNUM) {
            alone = 1;
        }
        if (kind & LETTER) {
            const char *word = at;
            do
                at++;
            while (at < end && kinds[(uint8_t)*at] & LETTER);
            Py_ssize_t length = at - word;
            run += length, solid += length;
            if (length > 1)
                alone = 1;
            if (inside == 2)
                found |= ODD;
            inside = 1, number = signs = 0;
            if (marked) {
                if (++wrapped >= WRAPPED)
                    found |= MARKS;
                marked = apart = 0;
            } else if (wrapped && previous & BLANK && !open && ++apart > FEW) {
                wrapped = apart = 0;
            }
            numbered = digits ? numbered + 1 : 0;
            if (numbered >= NUMBERED)
                found |= MARKS;
            digits = 0;
            since++;
            if (length > 1 && (at[-1] | 32) == 'y' && (at[-2] | 32) == 'a') {
                if (since <= OTHERS)
                    found |= ESCAPES;
                since = 0;
            }
            if (length == 5 && end - at > 1 && at[0] == ' ' && at[1] >= '0' && at[1] <= '7' && !memcmp(word, "begin", 5))
                found |= ESCAPES;
            int parted = previous & PARTS && at < end && kinds[(uint8_t)*at] & PARTS;
            words = parted && is_radio(word, length) ? words + 1 : 0;
            if (words >= RADIO)
                found |= ESCAPES;
        } else {
            if (!(kind & DIGIT)) {
                if (previous & ALNUM) {
                    wide = 1;
                    if (alone >= ALONE)
                        found |= GAPS;
                }
                wide &= *at == ' ' || *at == '\t';
                if (alone && gap < 4)
                    gap++;
            }
            run = kind & RUN ? run + 1 : 0;
            solid = kind & SEEN ? solid + 1 : 0;
            inside = inside && kind & IN_WORD ? 2 : 0;
            if (kind & DIGIT) {
                if (number > 1)
                    found |= ODD;
                number = digits = 1;
            } else {
                number = number && number <= 4 && kind & PARTS_NUMBERS ? number + 1 : 0;
            }
            if (kind & SIGN) {
                if (signs >= MANY_SIGNS)
                    found |= ODD;
            } else if (kind & PARTS_SIGNS) {
                signs += previous & SIGN ? 1 : 0;
            } else {
                signs = 0;
            }
            if (kind & WRAPS) {
                /* an apostrophe is none */
                marked |= *at != '\'' || !(previous & LETTER) || end - at < 2 || !(kinds[(uint8_t)at[1]] & LETTER);
                if (*at == '<')
                    open = end - at > 1 && at[1] == '!' ? 2 : 1;
                else if (*at == '>' && (open < 2 || at[-1] == '-'))
                    open = 0;
            }
            if (kind & CONTROL)
                found |= CONTROLS;
            if (kind & BEGINS && escapes(start, at, end))
                found |= ESCAPES;
            at++;
        }
        if (run >= LONG_RUN || solid >= LONG_SOLID)
            found |= ODD;
        previous = kind;
    }
    return found;
}

PyDoc_STRVAR(signs_doc, "signs(text, /)\n--\n\nWhat the text may hold, as bits: all of them for a text beyond ASCII.");

static PyObject *signs(PyObject *Py_UNUSED(module), PyObject *text)
{
    if (!PyUnicode_Check(text))
        return PyErr_Format(PyExc_TypeError, "text: wanted str, not %s", Py_TYPE(text)->tp_name);
    if (PyUnicode_READY(text) < 0)
        return NULL;
    if (!PyUnicode_IS_ASCII(text))
        return PyLong_FromLong(ALL);
    const char *start = (const char *)PyUnicode_1BYTE_DATA(text);
    return PyLong_FromLong(look(start, start + PyUnicode_GET_LENGTH(text)));
}

static PyMethodDef methods[] = {{"signs", signs, METH_O, signs_doc}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "detectors._signs",
    .m_doc = "What a text may hold; see `detectors.canonical` and `detectors.decode.gate`.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__signs(void)
{
    PyObject *made = PyModule_Create(&module);
    learn();
    if (made
        && (PyModule_AddIntMacro(made, CONTROLS) < 0 || PyModule_AddIntMacro(made, GAPS) < 0
            || PyModule_AddIntMacro(made, ODD) < 0 || PyModule_AddIntMacro(made, ESCAPES) < 0
            || PyModule_AddIntMacro(made, MARKS) < 0))
        Py_CLEAR(made);
    return made;
}
