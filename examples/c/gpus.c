// gpus [--root DIR] list
// gpus [--root DIR] edits DEVICE...
// gpus [--root DIR] apply DEVICE... <config.json
//
// Lists the GPUs of a host, shows what a container with these devices gets, or puts it into the
// container's config.json. A DEVICE is an index, a UUID, a slice such as 0:1, or all.

#include <gpucontainer.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "Usage: gpus [--root DIR] list | edits DEVICE... | apply DEVICE... <config.json\n";

// Text that the library may not know, such as a GPU's name on a host without NVML.
static const char *or_dash(const char *text) { return text != NULL ? text : "-"; }

static void list(const gpc_inventory *inventory) {
    printf("driver %s\n", or_dash(gpc_driver_version(inventory)));
    for (size_t gpu = 0; gpu < gpc_gpu_count(inventory); gpu++) {
        printf("%lld %s %s %s\n",
               (long long)gpc_gpu_number(inventory, gpu, GPC_GPU_NUMBER_FIELD_INDEX),
               or_dash(gpc_gpu_text(inventory, gpu, GPC_GPU_TEXT_FIELD_UUID)),
               or_dash(gpc_gpu_text(inventory, gpu, GPC_GPU_TEXT_FIELD_NODE)),
               or_dash(gpc_gpu_text(inventory, gpu, GPC_GPU_TEXT_FIELD_NAME)));
        for (size_t slice = 0; slice < gpc_mig_count(inventory, gpu); slice++)
            printf("  %lld:%lld %s %s\n",
                   (long long)gpc_gpu_number(inventory, gpu, GPC_GPU_NUMBER_FIELD_INDEX),
                   (long long)gpc_mig_number(inventory, gpu, slice, GPC_MIG_NUMBER_FIELD_INDEX),
                   or_dash(gpc_mig_text(inventory, gpu, slice, GPC_MIG_TEXT_FIELD_UUID)),
                   or_dash(gpc_mig_text(inventory, gpu, slice, GPC_MIG_TEXT_FIELD_PROFILE)));
    }
}

// What a container with these devices gets: all that compute and nvidia-smi need. NULL on failure.
static gpc_edits *plan(gpc_context *context, const gpc_inventory *inventory, char **devices) {
    gpc_request *request = gpc_request_new(context);
    if (request == NULL)
        return NULL;
    gpc_edits *edits = NULL;
    bool is_asked = gpc_request_add_capability(context, request, "compute") == 0 &&
                    gpc_request_add_capability(context, request, "utility") == 0;
    for (; is_asked && *devices != NULL; devices++)
        is_asked = gpc_request_add_device(context, request, *devices) == 0;
    if (is_asked)
        edits = gpc_plan(context, inventory, request);
    gpc_request_free(request);
    return edits;
}

// All of standard input as text. NULL where it cannot be read.
static char *read_all(void) {
    size_t used = 0, room = 1 << 16;
    char *text = malloc(room);
    while (text != NULL) {
        used += fread(text + used, 1, room - used - 1, stdin);
        if (feof(stdin) || ferror(stdin))
            break;
        if (used + 1 < room)
            continue;
        room *= 2;
        char *more = realloc(text, room);
        if (more == NULL)
            free(text);
        text = more;
    }
    if (text == NULL || ferror(stdin)) {
        free(text);
        return NULL;
    }
    text[used] = '\0';
    return text;
}

// Prints the plan by itself, or carried out in a config.json. False on failure.
static bool show(gpc_context *context, const gpc_edits *edits, bool is_applied) {
    char *shown = NULL;
    if (is_applied) {
        char *config = read_all();
        if (config == NULL)
            return false;
        shown = gpc_edits_apply(context, edits, config);
        free(config);
    } else {
        shown = gpc_edits_to_cdi(context, edits);
    }
    if (shown == NULL)
        return false;
    printf("%s\n", shown);
    gpc_string_free(shown);
    return true;
}

int main(int argc, char **argv) {
    argv++;
    const char *root = NULL;
    if (argc > 2 && strcmp(argv[0], "--root") == 0) {
        root = argv[1];
        argv += 2;
    }
    const char *command = *argv != NULL ? *argv++ : "";
    bool is_list = strcmp(command, "list") == 0;
    bool is_applied = strcmp(command, "apply") == 0;
    bool has_devices = *argv != NULL;
    if (!(is_list ? !has_devices : has_devices && (is_applied || strcmp(command, "edits") == 0))) {
        fputs(usage, stderr);
        return 2;
    }

    gpc_context *context = gpc_context_new();
    gpc_inventory *inventory = NULL;
    gpc_edits *edits = NULL;
    bool is_done = false;
    if (root != NULL && gpc_set_root(context, root) != 0)
        goto end;
    inventory = gpc_discover(context);
    if (inventory == NULL)
        goto end;
    if (is_list) {
        list(inventory);
        is_done = true;
        goto end;
    }
    edits = plan(context, inventory, argv);
    is_done = edits != NULL && show(context, edits, is_applied);
end:
    if (!is_done) {
        const char *why = gpc_error(context);
        fprintf(stderr, "gpus: %s\n", *why != '\0' ? why : "standard input cannot be read");
    }
    gpc_edits_free(edits);
    gpc_inventory_free(inventory);
    gpc_context_free(context);
    return is_done ? 0 : 1;
}
