/* The compiled half of the protocol layer: `mask`, `mask_in_place`, `serialise`, `small_frame`,
 * `forget_frame` and `split`, each with the contract of its Python twin in masking.py, frames.py and
 * messages.py, which tests hold against it.
 *
 * Why C and not Cython: both were written and measured (CPython 3.11, Cython 3.3, gcc 12). Against
 * the stable ABI, Cython is twice as slow for one frame (340 ns to 160) and a fifth to a half slower
 * on a read full of text frames (34 to 45 ns a frame to 29). Without the stable ABI it is about as
 * fast as this file, but every Python version needs a binary of its own. C needs a compiler and
 * nothing else where Cython turns 98 lines into 32 000, and a sanitizer (`make sanitize`) and a
 * reader see just what was written.
 *
 * Rules for safety, since this parses what strangers send:
 *   - Nothing of the input is read before it was compared with how much there is, and lengths are
 *     compared as "what is left < what is needed", which cannot overflow.
 *   - Nothing is allocated for a frame whose payload is not here.
 *   - The buffer is held (`Py_buffer`) as long as a pointer into it lives: a bytearray that anyone
 *     tries to resize meanwhile raises BufferError instead of moving.
 *   - What is no plain message is left to the Python engine; there are no faults to report here.
 */

/* The stable ABI of 3.11: one binary for that version and all later ones. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#define FIN 0x80
#define MASK 0x80
#define TEXT 0x1
#define BINARY 0x2
#define CLOSE 0x8

#define MAX_CONTROL_PAYLOAD 125
#define LONGEST_HEADER 14
#define KEY_SIZE 4

/* Bytes from which on a payload is not copied to stand behind its header; see messages.py. */
#define LARGE (16 * 1024)

/* Masked text up to this size is unmasked on the stack. */
#define SCRATCH 4096

/* Arguments: a small part of what `def f(a, *, b)` does, for `METH_FASTCALL | METH_KEYWORDS`. */

typedef struct {
    const char *function;
    int positional;              /* how many may be given by position */
    int count;                   /* how many there are */
    int required;                /* how many of the first `positional` must be given */
    int required_keywords;       /* how many of the rest must be given, the first of them */
    const char *names[6];
} Signature;

/* Sort the arguments into `values`, NULL where one is missing; they stay borrowed. */
static int
bind(const Signature *signature, PyObject *const *args, Py_ssize_t given, PyObject *names,
     PyObject **values)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_Size(names);
    if (given > signature->positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes %d positional arguments but %zd were given",
                     signature->function, signature->positional, given);
        return -1;
    }
    for (int index = 0; index < signature->count; index++) {
        values[index] = index < given ? args[index] : NULL;
    }
    for (Py_ssize_t index = 0; index < named; index++) {
        PyObject *name = PyTuple_GetItem(names, index);
        int found = signature->count;
        /* Names mostly come in the order of the signature, so that is where the search begins. */
        for (int step = 0; step < signature->count; step++) {
            int at = (int)((given + index + step) % signature->count);
            if (PyUnicode_CompareWithASCIIString(name, signature->names[at]) == 0) {
                found = at;
                break;
            }
        }
        if (found == signature->count || values[found] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected or repeated argument '%U'",
                         signature->function, name);
            return -1;
        }
        values[found] = args[given + index];
    }
    for (int index = 0; index < signature->count; index++) {
        int required = index < signature->positional
                           ? index < signature->required
                           : index < signature->positional + signature->required_keywords;
        if (required && values[index] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() is missing the argument '%s'",
                         signature->function, signature->names[index]);
            return -1;
        }
    }
    return 0;
}

/* A limit may be an integer of any size or a float, infinity above all. `up` says to which side a
 * fraction goes: a count of 2.5 is reached by 3, and a length of 3 is above it. */
static int
read_limit(PyObject *value, int up, Py_ssize_t *limit)
{
    if (PyFloat_Check(value)) {
        double number = PyFloat_AsDouble(value);
        if (number != number) {
            PyErr_SetString(PyExc_ValueError, "a limit is a number");
            return -1;
        }
        /* The cast is defined between these two only. */
        if (number >= (double)PY_SSIZE_T_MAX) {
            *limit = PY_SSIZE_T_MAX;
        }
        else if (number <= 0) {
            *limit = number < 0 && !up ? -1 : 0;
        }
        else {
            *limit = (Py_ssize_t)number;
            if (up && (double)*limit < number) {
                *limit += 1;
            }
        }
        return 0;
    }
    /* Without an exception to raise, it clips. */
    *limit = PyNumber_AsSsize_t(value, NULL);
    return *limit == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Masking */

/* XOR `size` bytes with the key, beginning `offset` bytes into it. The buffers are one, or do not
 * overlap. */
static void
apply_mask(unsigned char *to, const unsigned char *from, size_t size,
           const unsigned char *key, unsigned offset)
{
    unsigned char turned[8];
    uint64_t keys, word;
    size_t index = 0;

    for (unsigned at = 0; at < sizeof turned; at++) {
        turned[at] = key[(at + offset) % KEY_SIZE];
    }
    memcpy(&keys, turned, sizeof keys);
    /* `memcpy` of a fixed size is a load or store that takes any alignment; compilers make vectors
     * of this loop. */
    for (; size - index >= sizeof word; index += sizeof word) {
        memcpy(&word, from + index, sizeof word);
        word ^= keys;
        memcpy(to + index, &word, sizeof word);
    }
    for (; index < size; index++) {
        to[index] = from[index] ^ turned[index % sizeof turned];
    }
}

/* Make bytes of `size` masked bytes. */
static PyObject *
masked_bytes(const unsigned char *from, Py_ssize_t size, const unsigned char *key, unsigned offset)
{
    PyObject *result = PyBytes_FromStringAndSize(NULL, size);
    if (result != NULL) {
        apply_mask((unsigned char *)PyBytes_AsString(result), from, (size_t)size, key, offset);
    }
    return result;
}

/* Get the bytes of any bytes-like object, with gaps and wide items too. */
static int
get_bytes(PyObject *object, Py_buffer *view)
{
    PyObject *copy;
    int result;

    if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) == 0) {
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_BufferError)) {
        return -1;
    }
    PyErr_Clear();
    copy = PyBytes_FromObject(object);
    if (copy == NULL) {
        return -1;
    }
    /* The view keeps the copy alive. */
    result = PyObject_GetBuffer(copy, view, PyBUF_SIMPLE);
    Py_DECREF(copy);
    return result;
}

static int
get_key(PyObject *key, unsigned char *to)
{
    Py_buffer view;
    if (PyObject_GetBuffer(key, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    if (view.len != KEY_SIZE) {
        PyErr_Format(PyExc_ValueError, "a masking key has 4 bytes, not %zd", view.len);
        PyBuffer_Release(&view);
        return -1;
    }
    memcpy(to, view.buf, KEY_SIZE);
    PyBuffer_Release(&view);
    return 0;
}

/* Read how far into the key to begin; nothing given is 0. */
static int
get_offset(PyObject *value, unsigned *offset)
{
    unsigned long number = 0;
    if (value != NULL) {
        /* Only the last two bits count, whatever its size and sign. */
        number = PyLong_AsUnsignedLongMask(value);
        if (number == (unsigned long)-1 && PyErr_Occurred()) {
            return -1;
        }
    }
    *offset = (unsigned)(number % KEY_SIZE);
    return 0;
}

PyDoc_STRVAR(mask_doc,
"mask($module, data, key, offset=0)\n--\n\n"
"Mask or unmask a payload, or a piece of one; see `masking.python_mask`.");

static PyObject *
mask(PyObject *module, PyObject *const *args, Py_ssize_t given, PyObject *names)
{
    static const Signature signature = {"mask", 3, 3, 2, 0, {"data", "key", "offset"}};
    PyObject *values[3], *result;
    unsigned char key[KEY_SIZE];
    unsigned offset;
    Py_buffer data;

    (void)module;
    if (bind(&signature, args, given, names, values) < 0 || get_key(values[1], key) < 0
        || get_offset(values[2], &offset) < 0) {
        return NULL;
    }
    if (get_bytes(values[0], &data) < 0) {
        return NULL;
    }
    result = masked_bytes(data.buf, data.len, key, offset);
    PyBuffer_Release(&data);
    return result;
}

PyDoc_STRVAR(mask_in_place_doc,
"mask_in_place($module, data, key, offset=0)\n--\n\n"
"Mask or unmask a payload, or a piece of one, where it stands; see\n"
"`masking.python_mask_in_place`.");

static PyObject *
mask_in_place(PyObject *module, PyObject *const *args, Py_ssize_t given, PyObject *names)
{
    static const Signature signature = {"mask_in_place", 3, 3, 2, 0, {"data", "key", "offset"}};
    PyObject *values[3];
    unsigned char key[KEY_SIZE];
    unsigned offset;
    Py_buffer data;

    (void)module;
    if (bind(&signature, args, given, names, values) < 0 || get_key(values[1], key) < 0
        || get_offset(values[2], &offset) < 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(values[0], &data, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    apply_mask(data.buf, data.buf, (size_t)data.len, key, offset);
    PyBuffer_Release(&data);
    /* Not Py_RETURN_NONE: from 3.12 on it takes None for immortal, and counts nothing, also where
       the binary is for versions that do count. */
    return Py_NewRef(Py_None);
}

/* Writing frames */

typedef struct {
    PyObject *os;
    PyObject *urandom;  /* the name, made once: Python's cache of attributes holds on to names */
    PyObject *key_size;
    PyObject *message;  /* the latest of `small_frame`, text or bytes; NULL if it was forgotten */
    PyObject *frame;    /* its frame */
} State;

/* Ask `os.urandom` by its name, as the twin does, for a key that nobody can predict. */
static int
make_key(const State *state, unsigned char *key)
{
    PyObject *entropy = PyObject_CallMethodObjArgs(state->os, state->urandom, state->key_size, NULL);
    int result;
    if (entropy == NULL) {
        return -1;
    }
    result = get_key(entropy, key);
    Py_DECREF(entropy);
    return result;
}

/* Write a frame header without its key; return how long it is. */
static size_t
write_header(unsigned char *to, unsigned char first, unsigned char bit, uint64_t length)
{
    to[0] = first;
    if (length < 126) {
        to[1] = bit | (unsigned char)length;
        return 2;
    }
    int bytes = length < 0x10000 ? 2 : 8;
    to[1] = bit | (bytes == 2 ? 126 : 127);
    for (int index = 0; index < bytes; index++) {
        to[2 + index] = (unsigned char)(length >> (8 * (bytes - 1 - index)));
    }
    return 2 + (size_t)bytes;
}

/* Make bytes of a frame that begins with `first`. */
static PyObject *
make_frame(const State *state, unsigned char first, const unsigned char *payload, Py_ssize_t length,
           int masked)
{
    unsigned char header[LONGEST_HEADER], *key, *to;
    PyObject *result;
    size_t size;

    if (length > PY_SSIZE_T_MAX - LONGEST_HEADER) {
        return PyErr_NoMemory();
    }
    size = write_header(header, first, masked ? MASK : 0, (uint64_t)length);
    key = header + size;
    if (masked) {
        if (make_key(state, key) < 0) {
            return NULL;
        }
        size += KEY_SIZE;
    }
    result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size + length);
    if (result == NULL) {
        return NULL;
    }
    to = (unsigned char *)PyBytes_AsString(result);
    memcpy(to, header, size);
    if (masked) {
        apply_mask(to + size, payload, (size_t)length, key, 0);
    }
    else if (length > 0) {
        memcpy(to + size, payload, (size_t)length);
    }
    return result;
}

PyDoc_STRVAR(serialise_doc,
"serialise($module, opcode, payload, *, masked, fin=True)\n--\n\n"
"Make one frame; see `frames.python_serialise`.");

static PyObject *
serialise(PyObject *module, PyObject *const *args, Py_ssize_t given, PyObject *names)
{
    static const Signature signature = {
        "serialise", 2, 4, 2, 1, {"opcode", "payload", "masked", "fin"}};
    State *state = PyModule_GetState(module);
    PyObject *values[4], *result = NULL;
    Py_buffer payload;

    if (bind(&signature, args, given, names, values) < 0) {
        return NULL;
    }
    long opcode = PyLong_AsLong(values[0]);
    if (opcode == -1 && PyErr_Occurred()) {
        return NULL;
    }
    int masked = PyObject_IsTrue(values[2]);
    int fin = values[3] == NULL ? 1 : PyObject_IsTrue(values[3]);
    if (masked < 0 || fin < 0) {
        return NULL;
    }
    if (opcode < 0 || opcode > 0xF) {
        PyErr_Format(PyExc_ValueError, "an opcode has four bits, %ld does not fit", opcode);
        return NULL;
    }
    if (get_bytes(values[1], &payload) < 0) {
        return NULL;
    }
    if (opcode >= CLOSE && payload.len > MAX_CONTROL_PAYLOAD) {
        PyErr_Format(PyExc_ValueError, "a control frame carries at most %d bytes, not %zd",
                     MAX_CONTROL_PAYLOAD, payload.len);
    }
    else {
        result = make_frame(state, (unsigned char)((fin ? FIN : 0) | opcode), payload.buf,
                            payload.len, masked);
    }
    PyBuffer_Release(&payload);
    return result;
}

static void
forget(State *state)
{
    /* Both are plain text or bytes, so nothing else runs when they go. */
    Py_CLEAR(state->message);
    Py_CLEAR(state->frame);
}

PyDoc_STRVAR(small_frame_doc,
"small_frame($module, message, masked, /)\n--\n\n"
"Make the frame of a small message; see `messages.python_small_frame`.");

static PyObject *
small_frame(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    State *state = PyModule_GetState(module);
    PyObject *text = NULL, *result, *payload;
    unsigned char opcode = BINARY;
    int masked;

    if (given != 2) {
        PyErr_Format(PyExc_TypeError, "small_frame() takes 2 arguments but %zd were given", given);
        return NULL;
    }
    masked = PyObject_IsTrue(args[1]);
    if (masked < 0) {
        return NULL;
    }
    payload = args[0];
    if (!masked && payload == state->message) {
        return Py_NewRef(state->frame);
    }
    if (PyUnicode_CheckExact(payload)) {
        /* By its characters: to encode it only to refuse it would take as long as its frame. */
        if (PyUnicode_GetLength(payload) >= LARGE) {
            return Py_NewRef(Py_None);
        }
        opcode = TEXT;
        payload = text = PyUnicode_AsUTF8String(payload);
        if (text == NULL) {
            return NULL;
        }
    }
    else if (!PyBytes_CheckExact(payload) || PyBytes_Size(payload) >= LARGE) {
        return Py_NewRef(Py_None);
    }
    result = make_frame(state, FIN | opcode, (const unsigned char *)PyBytes_AsString(payload),
                        PyBytes_Size(payload), masked);
    Py_XDECREF(text);
    if (!masked && result != NULL) {
        forget(state);
        state->message = Py_NewRef(args[0]);
        state->frame = Py_NewRef(result);
    }
    return result;
}

PyDoc_STRVAR(forget_frame_doc,
"forget_frame($module, /)\n--\n\n"
"Let go of the latest frame; see `messages.python_forget_frame`.");

static PyObject *
forget_frame(PyObject *module, PyObject *unused)
{
    (void)unused;
    forget(PyModule_GetState(module));
    return Py_NewRef(Py_None);
}

/* Reading frames */

typedef struct {
    int text;
    const unsigned char *key;      /* NULL if it is not masked */
    const unsigned char *payload;
    size_t length;
} Frame;

static uint64_t
read_number(const unsigned char *from, int bytes)
{
    uint64_t number = 0;
    for (int index = 0; index < bytes; index++) {
        number = number << 8 | from[index];
    }
    return number;
}

/* Tell whether a plain frame begins at `data`, and is here to its last byte. `available` is how
 * many bytes there are. */
static int
read_plain(const unsigned char *data, size_t available, int masked, size_t max_message,
           Frame *frame)
{
    uint64_t length;
    size_t header = 2;

    if (available < header) {
        return 0;
    }
    /* FIN set, no reserved bit, no control frame, no continuation. */
    if (data[0] != (FIN | TEXT) && data[0] != (FIN | BINARY)) {
        return 0;
    }
    if ((data[1] >= MASK) != masked) {
        return 0;
    }
    length = data[1] & 0x7F;
    if (length >= 126) {
        int bytes = length == 126 ? 2 : 8;
        header += (size_t)bytes;
        if (available < header) {
            return 0;
        }
        length = read_number(data + 2, bytes);
        /* The shortest form only (RFC 6455 §5.2). */
        if (length < (bytes == 2 ? 126u : 0x10000u)) {
            return 0;
        }
    }
    if (masked) {
        header += KEY_SIZE;
    }
    if (available < header || available - header < length || length > max_message) {
        return 0;
    }
    frame->text = data[0] == (FIN | TEXT);
    frame->key = masked ? data + header - KEY_SIZE : NULL;
    frame->payload = data + header;
    frame->length = (size_t)length;
    return 1;
}

/* Decode text; return NULL without an exception if it is no valid UTF-8. */
static PyObject *
decode(const unsigned char *text, size_t length)
{
    PyObject *result = PyUnicode_DecodeUTF8((const char *)text, (Py_ssize_t)length, NULL);
    if (result == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
    }
    return result;
}

/* Make the message of a frame; return NULL without an exception if it is no valid text. */
static PyObject *
make_message(const Frame *frame)
{
    unsigned char scratch[SCRATCH], *text = scratch;
    PyObject *result;

    if (!frame->text) {
        return frame->key == NULL
                   ? PyBytes_FromStringAndSize((const char *)frame->payload,
                                               (Py_ssize_t)frame->length)
                   : masked_bytes(frame->payload, (Py_ssize_t)frame->length, frame->key, 0);
    }
    if (frame->key == NULL) {
        return decode(frame->payload, frame->length);
    }
    if (frame->length > sizeof scratch) {
        text = PyMem_Malloc(frame->length);
        if (text == NULL) {
            return PyErr_NoMemory();
        }
    }
    apply_mask(text, frame->payload, frame->length, frame->key, 0);
    result = decode(text, frame->length);
    if (text != scratch) {
        PyMem_Free(text);
    }
    return result;
}

/* Take plain messages from `data + *start` into the list, move `*start` behind them, and set
 * `*taken` to their bytes. */
static int
take_messages(PyObject *messages, const unsigned char *data, size_t size, size_t *start,
              Py_ssize_t *taken, int masked, Py_ssize_t max_message, Py_ssize_t max_count,
              Py_ssize_t max_bytes)
{
    Py_ssize_t count = 0;
    Frame frame;

    *taken = 0;

    if (max_message < 0) {
        return 0;
    }
    while (count < max_count && *taken < max_bytes
           && read_plain(data + *start, size - *start, masked, (size_t)max_message, &frame)) {
        PyObject *message = make_message(&frame);
        int failed;
        if (message == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        failed = PyList_Append(messages, message);
        Py_DECREF(message);
        if (failed) {
            return -1;
        }
        *start = (size_t)(frame.payload - data) + frame.length;
        count++;
        /* No overflow: the payloads lie one behind the other in one object. */
        *taken += (Py_ssize_t)frame.length;
    }
    return 0;
}

PyDoc_STRVAR(split_doc,
"split($module, data, start, *, masked, max_message, max_count, max_bytes)\n--\n\n"
"Take plain messages from the front of what was read; see `frames.python_split`.");

static PyObject *
split(PyObject *module, PyObject *const *args, Py_ssize_t given, PyObject *names)
{
    static const Signature signature = {
        "split", 2, 6, 2, 4,
        {"data", "start", "masked", "max_message", "max_count", "max_bytes"}};
    PyObject *values[6], *messages = NULL, *end = NULL, *size = NULL, *result = NULL;
    Py_ssize_t start, taken = 0, max_message, max_count, max_bytes;
    Py_buffer data;
    size_t position;
    int masked;

    (void)module;
    if (bind(&signature, args, given, names, values) < 0) {
        return NULL;
    }
    start = PyNumber_AsSsize_t(values[1], PyExc_OverflowError);
    if (start == -1 && PyErr_Occurred()) {
        return NULL;
    }
    masked = PyObject_IsTrue(values[2]);
    if (masked < 0 || read_limit(values[3], 0, &max_message) < 0
        || read_limit(values[4], 1, &max_count) < 0 || read_limit(values[5], 1, &max_bytes) < 0) {
        return NULL;
    }
    if (start < 0) {
        PyErr_SetString(PyExc_ValueError, "start is an index from the front");
        return NULL;
    }
    if (PyObject_GetBuffer(values[0], &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    position = (size_t)start;
    messages = PyList_New(0);
    if (messages == NULL) {
        goto done;
    }
    if (start < data.len
        && take_messages(messages, data.buf, (size_t)data.len, &position, &taken, masked,
                         max_message, max_count, max_bytes) < 0) {
        goto done;
    }
    end = PyLong_FromSize_t(position);
    size = PyLong_FromSsize_t(taken);
    if (end != NULL && size != NULL) {
        result = PyTuple_Pack(3, messages, end, size);
    }
done:
    Py_XDECREF(size);
    Py_XDECREF(end);
    Py_XDECREF(messages);
    PyBuffer_Release(&data);
    return result;
}

/* The module */

static PyMethodDef methods[] = {
    {"mask", (PyCFunction)(void (*)(void))mask, METH_FASTCALL | METH_KEYWORDS, mask_doc},
    {"mask_in_place", (PyCFunction)(void (*)(void))mask_in_place, METH_FASTCALL | METH_KEYWORDS,
     mask_in_place_doc},
    {"serialise", (PyCFunction)(void (*)(void))serialise, METH_FASTCALL | METH_KEYWORDS,
     serialise_doc},
    {"small_frame", (PyCFunction)(void (*)(void))small_frame, METH_FASTCALL, small_frame_doc},
    {"forget_frame", forget_frame, METH_NOARGS, forget_frame_doc},
    {"split", (PyCFunction)(void (*)(void))split, METH_FASTCALL | METH_KEYWORDS, split_doc},
    {NULL, NULL, 0, NULL},
};

static int
execute(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->os = PyImport_ImportModule("os");
    state->urandom = PyUnicode_InternFromString("urandom");
    state->key_size = PyLong_FromLong(KEY_SIZE);
    return state->os == NULL || state->urandom == NULL || state->key_size == NULL ? -1 : 0;
}

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    Py_VISIT(state->os);
    return 0;
}

static int
clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->os);
    Py_CLEAR(state->urandom);
    Py_CLEAR(state->key_size);
    forget(state);
    return 0;
}

static void
release(void *module)
{
    clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "speedups",
    .m_doc = "The compiled half of the protocol layer.",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = release,
};

PyMODINIT_FUNC
PyInit_speedups(void)
{
    return PyModuleDef_Init(&definition);
}
