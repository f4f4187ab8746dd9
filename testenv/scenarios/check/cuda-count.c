/* cuda-count: prints how many devices CUDA has; finds the library through the loader's cache, as any program would. */
#include <dlfcn.h>
#include <stdio.h>

int main(void) {
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW);
    if (!cuda) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    unsigned (*init)(unsigned) = (unsigned (*)(unsigned))dlsym(cuda, "cuInit");
    unsigned (*count)(int *) = (unsigned (*)(int *))dlsym(cuda, "cuDeviceGetCount");
    int n = 0;
    if (!init || !count || init(0) != 0 || count(&n) != 0) {
        fprintf(stderr, "cuInit fails\n");
        return 1;
    }
    printf("%d\n", n);
    return 0;
}
