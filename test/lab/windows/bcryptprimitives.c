/* bcryptprimitives.dll for Wine 8, which has none. Go programs need one function of it, and end at once without it. */
#include <stddef.h>
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID out, ULONG size); /* RtlGenRandom, in advapi32 */

BOOL WINAPI DllMain(HINSTANCE dll, DWORD reason, LPVOID reserved) { return TRUE; }

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE out, SIZE_T size)
{
    while (size > 0) {
        ULONG part = size > (1u << 20) ? 1u << 20 : (ULONG)size;
        if (!SystemFunction036(out, part))
            return FALSE;
        out += part;
        size -= part;
    }
    return TRUE;
}
