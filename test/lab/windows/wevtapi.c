/* wevtapi.dll for Wine, which keeps no events: the four functions by which a program reads the event log, as winevt.h and Microsoft's
 * documentation have them, over C:\events\LOG.xml (UTF-8, an event a line, the oldest first). It knows no queries: it gives every
 * event, appends what it was asked to C:\events\asked, and refuses what Windows would refuse. */
#define _WIN32_WINNT 0x0601
#include <windows.h>
#include <winevt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESULTS = 0x5265, EVENT = 0x4576 };
struct object { int kind; char *text; struct object **list; DWORD count, at; };

BOOL WINAPI DllMain(HINSTANCE dll, DWORD reason, LPVOID reserved) { return TRUE; }

static BOOL fail(DWORD code) { SetLastError(code); return FALSE; }

static struct object *load(const WCHAR *log, int newest)
{
    WCHAR path[MAX_PATH];
    char *line = malloc(1 << 20);
    struct object *r = calloc(1, sizeof *r);
    _snwprintf(path, MAX_PATH, L"C:\\events\\%ls.xml", log);
    FILE *f = _wfopen(path, L"rb");
    if (!f) { free(line); free(r); SetLastError(ERROR_EVT_CHANNEL_NOT_FOUND); return NULL; }
    r->kind = RESULTS;
    while (fgets(line, 1 << 20, f)) {
        struct object *e = calloc(1, sizeof *e);
        e->kind = EVENT, e->text = _strdup(line);
        e->text[strcspn(e->text, "\r\n")] = 0;
        r->list = realloc(r->list, ++r->count * sizeof *r->list);
        r->list[r->count - 1] = e;
    }
    fclose(f);
    free(line);
    for (DWORD i = 0; newest && i < r->count / 2; i++) {
        struct object *other = r->list[i];
        r->list[i] = r->list[r->count - 1 - i], r->list[r->count - 1 - i] = other;
    }
    return r;
}

__declspec(dllexport) EVT_HANDLE WINAPI EvtQuery(EVT_HANDLE session, LPCWSTR path, LPCWSTR query, DWORD flags)
{
    FILE *f = fopen("C:\\events\\asked", "a");
    if (f) { fprintf(f, "%ls %#lx %ls\n", path, flags, query); fclose(f); }
    if (session || !(flags & EvtQueryChannelPath) || wcsncmp(query, L"*[", 2)) { fail(ERROR_INVALID_PARAMETER); return NULL; }
    return (EVT_HANDLE)load(path, flags & EvtQueryReverseDirection);
}

__declspec(dllexport) BOOL WINAPI EvtNext(EVT_HANDLE results, DWORD size, EVT_HANDLE *events, DWORD timeout, DWORD flags, PDWORD returned)
{
    struct object *r = (struct object *)results;
    if (!r || r->kind != RESULTS) return fail(ERROR_INVALID_HANDLE);
    if (flags || !size || !events || !returned) return fail(ERROR_INVALID_PARAMETER);
    for (*returned = 0; *returned < size && r->at < r->count;) events[(*returned)++] = (EVT_HANDLE)r->list[r->at++];
    return *returned ? TRUE : fail(ERROR_NO_MORE_ITEMS);
}

__declspec(dllexport) BOOL WINAPI EvtRender(EVT_HANDLE context, EVT_HANDLE event, DWORD flags, DWORD size, PVOID buffer, PDWORD used, PDWORD properties)
{
    struct object *e = (struct object *)event;
    if (!e || e->kind != EVENT) return fail(ERROR_INVALID_HANDLE);
    if (context || flags != EvtRenderEventXml || !used || !properties) return fail(ERROR_INVALID_PARAMETER);
    *properties = 0, *used = sizeof(WCHAR) * MultiByteToWideChar(CP_UTF8, 0, e->text, -1, NULL, 0);
    if (*used > size) return fail(ERROR_INSUFFICIENT_BUFFER);
    MultiByteToWideChar(CP_UTF8, 0, e->text, -1, buffer, size / sizeof(WCHAR));
    return TRUE;
}

__declspec(dllexport) BOOL WINAPI EvtClose(EVT_HANDLE object)
{
    struct object *o = (struct object *)object;
    if (!o || o->kind != RESULTS && o->kind != EVENT) return fail(ERROR_INVALID_HANDLE);
    o->kind = 0; /* twice is found; the memory ends with the program */
    return TRUE;
}
