#include "unit/unit.h"

#include <sys/stat.h>

#include "base/buf.h"
#include "instance/backend.h"

/* ---- help ---- */

struct built {
    struct arena arena;
    struct err err;
    char text[4096]; /* the arguments with blanks between them, or the error */
    bool good;
};

static struct str q(const char *json, char out[4096]) /* ' for " */
{
    size_t n = strlen(json);
    for (size_t i = 0; i <= n; i++)
        out[i] = json[i] == '\'' ? '"' : json[i];
    return (struct str){out, n};
}

static json_t *document(const char *json)
{
    char text[4096];
    struct err err;
    json_t *value = json_read(q(json, text), &err);
    assert_non_null(value);
    return value;
}

static const struct backend *backend(const char *type)
{
    struct err err;
    const struct backend *found = backend_find(str_from(type), &err);
    assert_non_null(found);
    return found;
}

static void join(const struct backend_launch *launch, char out[4096])
{
    out[0] = '\0';
    for (size_t i = 0, n = 0; launch->argv[i]; i++)
        n += (size_t)snprintf(out + n, 4096 - n, "%s%s", i ? " " : "", launch->argv[i]);
}

static void run_build(struct built *b, struct backend_input *in, const json_t *options)
{
    static struct backend_launch launch;
    b->err = ERR_INIT;
    json_t *canonical = in->backend->canonical(options, &b->err);
    in->options = canonical;
    arena_init(&b->arena);
    b->good = canonical && backend_command(in, &b->arena, &launch, &b->err);
    if (b->good)
        join(&launch, b->text);
    else
        snprintf(b->text, sizeof b->text, "%s", b->err.message);
    json_decref(canonical);
    arena_dispose(&b->arena);
}

static void build(struct built *b, struct backend_input in, const char *options)
{
    json_t *value = document(options);
    run_build(b, &in, value);
    json_decref(value);
}

/* ---- golden command lines ---- */

static const struct {
    const char *type, *options, *argv;
} golden[] = {
    /* llamactl's own */
    {"llama_cpp",
     "{'model':'/m.gguf','ctx_size':4096,'gpu_layers':32,'flash_attn':'on','override_kv':['a=int:1','b=bool:true'],"
     "'port':8000}",
     "llama-server --ctx-size 4096 --flash-attn on --gpu-layers 32 --override-kv a=int:1 --override-kv b=bool:true "
     "--model /m.gguf --port 8000"},
    {"vllm", "{'model':'org/m','tensor_parallel_size':2,'api_key':['k1','k2'],'port':8001}",
     "vllm serve org/m --port 8001 --tensor-parallel-size 2 --api-key k1 --api-key k2"},
    {"mlx_lm", "{'model':'m','temp':0.7,'port':8002}", "mlx_lm.server --model m --port 8002 --temp 0.7"},
    {"llama_cpp", "{'extra_args':{'new-flag':'','x':'1'},'port':8003}", "llama-server --port 8003 --new-flag --x 1"},
    /* zero and false are values */
    {"llama_cpp", "{'gpu_layers':0,'temp':0,'seed':0,'cache_ram':0,'port':0}",
     "llama-server --gpu-layers 0 --seed 0 --temp 0 --cache-ram 0"},
    {"llama_cpp", "{'mmap':false,'jinja':true,'no_webui':true,'mlock':false,'metrics':true,'no_slots':false}",
     "llama-server --no-mmap --no-webui --metrics --jinja"},
    {"llama_cpp", "{'model':'','alias':'','lora':[]}", "llama-server"},
    {"llama_cpp", "{'model':null,'ctx_size':null}", "llama-server"},
    /* types */
    {"llama_cpp", "{'ctx_size':'4096','threads':8.0,'temp':'0.70','top_p':1,'gpu_layers':'auto'}",
     "llama-server --threads 8 --ctx-size 4096 --gpu-layers auto --temp 0.7 --top-p 1"},
    {"llama_cpp", "{'lora':'a.gguf','logit_bias':[15043,'7+1']}",
     "llama-server --lora a.gguf --logit-bias 15043 --logit-bias 7+1"},
    {"llama_cpp", "{'control_vector_layer_range':'10 20','spec_replace':['a','b']}",
     "llama-server --control-vector-layer-range 10 20 --spec-replace a b"},
    {"llama_cpp", "{'control_vector_layer_range':[10,20]}", "llama-server --control-vector-layer-range 10 20"},
    {"llama_cpp", "{'lookup_cache_static':'s.bin','lookup_cache_dynamic':'d.bin'}",
     "llama-server --lookup-cache-static s.bin --lookup-cache-dynamic d.bin"},
    {"llama_cpp", "{'fim_qwen_1_5b_default':true,'fim_qwen_3b_default':true}",
     "llama-server --fim-qwen-1.5b-default --fim-qwen-3b-default"},
    {"llama_cpp", "{'rope_freq_base':1000000,'rope_freq_scale':1e-7,'yarn_ext_factor':1e6}",
     "llama-server --rope-freq-base 1000000 --rope-freq-scale 1e-07 --yarn-ext-factor 1000000"},
    {"llama_cpp", "{'ctx-size':1,'no-perf':true}", "llama-server --ctx-size 1 --no-perf"},
    /* unknown ones */
    {"llama_cpp",
     "{'new_flag':true,'old_flag':false,'big':1000000,'real':0.5,'many':['a','b'],'extra_args':{'a_b':1e6}}",
     "llama-server --a_b 1000000 --new-flag --big 1000000 --real 0.5 --many a --many b"},
    {"llama_cpp", "{'new_x':'2','extra_args':{'new-x':'1','y':'1'}}", "llama-server --new-x 2 --y 1"},
    {"llama_cpp", "{'extra_args':{'-zz':'5','b':true,'c':false,'d':['','1'],'e':null}}",
     "llama-server -zz 5 --b --d --d 1"},
    {"vllm", "{'speculative_config':{'method':'ngram'},'middleware':['a','b'],'enable_prefix_caching':false}",
     "vllm serve --no-enable-prefix-caching --middleware a --middleware b --speculative-config {\"method\":\"ngram\"}"},
    {"vllm", "{'model':'m','max_model_len':'32k','max_num_seqs':8,'tp':2}",
     "vllm serve m --max-model-len 32k --tensor-parallel-size 2 --max-num-seqs 8"},
    {"worker", "{'model':'/m.gguf','ctx_size':2048,'n_gpu_layers':-1,'mmap':false,'mlock':true}",
     "/opt/inferd worker --model /m.gguf --context-size 2048 --gpu-layers -1 --no-mmap --mlock"},
    {"worker", "{'model':'/m.gguf','no_mmap':true,'alias':'x'}",
     "/opt/inferd worker --model /m.gguf --alias x --no-mmap"},
    {"command", "{'argv':['/bin/s','--port','{port}','-h{host}','{other}','{'],'port':81}",
     "/bin/s --port 81 -h127.0.0.1 {other} {"},
};

static void command_lines_are_exact(void **state)
{
    (void)state;
    setenv("PATH", "/nonexistent", 1);
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        struct built b;
        build(&b, (struct backend_input){.backend = backend(golden[i].type), .program = "/opt/inferd"},
              golden[i].options);
        assert_string_equal(b.text, golden[i].argv);
    }
}

static void what_the_manager_decides_is_in_its_place(void **state)
{
    (void)state;
    struct built b;
    struct backend_input in = {.backend = backend("llama_cpp"),
                               .command_override = "/my/server",
                               .program = "/opt/inferd",
                               .name = "n",
                               .host = "127.0.0.1",
                               .port = 9100,
                               .preset_file = "/p.ini"};
    build(&b, in, "{'ctx_size':1,'metrics':true}");
    assert_string_equal(b.text,
                        "/my/server --ctx-size 1 --host 127.0.0.1 --port 9100 --metrics --models-preset /p.ini");
    build(&b, in, "{'port':0,'host':'::1','models_preset':'/own'}");
    assert_string_equal(b.text, "/my/server --host ::1 --port 9100 --models-preset /own");
    build(&b, in, "{'port':7}");
    assert_string_equal(b.text, "/my/server --host 127.0.0.1 --port 7 --models-preset /p.ini");
    in = (struct backend_input){.backend = backend("worker"), .program = "/opt/inferd", .name = "n", .socket = "/s"};
    build(&b, in, "{'model':'/m'}");
    assert_string_equal(b.text, "/opt/inferd worker --model /m --alias n");
    in.backend = backend("command");
    build(&b, in, "{'argv':['x','{socket}']}");
    assert_string_equal(b.text, "x /s");
    in.command_override = "/y";
    build(&b, in, "{'argv':['x','{socket}']}");
    assert_string_equal(b.text, "/y /s");
}

/* Its supervisor writes the beginning of our worker's command line itself. */
static void the_workers_arguments_stand_alone(void **state)
{
    (void)state;
    static struct backend_launch launch;
    char text[4096];
    struct err err;
    struct arena arena;
    json_t *options = document("{'model':'/m','threads':2}");
    struct backend_input in = {.backend = backend("worker"), .options = options, .name = "n"};
    arena_init(&arena);
    launch = (struct backend_launch){.in = &in, .arena = &arena, .argv = {"inferd"}, .argc = 1};
    assert_true(in.backend->arguments(&launch, options, &err));
    join(&launch, text);
    assert_string_equal(text, "inferd --model /m --threads 2 --alias n");
    json_decref(options);
    arena_dispose(&arena);
}

static void configuration_comes_before_options(void **state)
{
    (void)state;
    struct conf conf;
    struct built b;
    static const char *const args[] = {"--verbose", "--log-prefix", NULL}, *const environment[] = {"A=instance", NULL},
                             *const from_conf[] = {"A=conf", "B=1", NULL}, *const docker[] = {"B=2", "C=3", NULL};
    conf_init(&conf);
    setenv("HOME", "/home/u", 1);
    struct backend_input in = {.backend = backend("vllm"), .conf = conf_backend_find(&conf, STR("vllm"))};
    build(&b, in, "{'model':'org/m'}");
    assert_string_equal(b.text, "vllm serve org/m");
    in.docker = true;
    build(&b, in, "{'model':'org/m','port':8004}");
    assert_string_equal(b.text, "docker run --rm --network host --gpus all --shm-size 1g -v "
                                "/home/u/.cache/huggingface:/root/.cache/huggingface vllm/vllm-openai:latest --port "
                                "8004 --model org/m");
    struct conf_backend own = *in.conf;
    own.environment = from_conf;
    own.docker_environment = docker;
    in.conf = &own;
    in.environment = environment;
    in.name = "big";
    in.command_override = "/ignored";
    build(&b, in, "{}");
    assert_string_equal(b.text, "docker run --name inferd-big --rm --network host --gpus all --shm-size 1g -v "
                                "/home/u/.cache/huggingface:/root/.cache/huggingface -e B=2 -e C=3 -e A=instance "
                                "vllm/vllm-openai:latest");
    own = *conf_backend_find(&conf, STR("llama-cpp"));
    own.command = "/conf/server";
    own.args = args;
    in = (struct backend_input){.backend = backend("llama_cpp"), .conf = &own};
    build(&b, in, "{'port':1}");
    assert_string_equal(b.text, "/conf/server --verbose --log-prefix --port 1");
    in = (struct backend_input){
        .backend = backend("mlx_lm"), .conf = conf_backend_find(&conf, STR("mlx")), .docker = true};
    build(&b, in, "{'port':1}");
    assert_string_equal(b.text, "mlx_lm.server --port 1"); /* has no container */
    in = (struct backend_input){.backend = backend("vllm"), .docker = true};
    build(&b, in, "{}");
    assert_false(b.good);
    assert_string_equal(b.err.param, "docker_enabled");
    conf_release(&conf);
}

static void llama_server_is_found_on_path_and_beside_us(void **state)
{
    (void)state;
    char folder[] = "/tmp/inferd-backend-XXXXXX", server[64], program[64];
    struct built b;
    assert_non_null(mkdtemp(folder));
    snprintf(server, sizeof server, "%s/llama-server", folder);
    snprintf(program, sizeof program, "%s/inferd", folder);
    struct backend_input in = {.backend = backend("llama_cpp"), .program = program};
    setenv("PATH", "/nonexistent", 1);
    build(&b, in, "{}");
    assert_string_equal(b.text, "llama-server");
    FILE *file = fopen(server, "w");
    assert_non_null(file);
    assert_int_equal(fchmod(fileno(file), 0700), 0);
    fclose(file);
    build(&b, in, "{}");
    assert_string_equal(b.text, server);
    in.program = "/opt/inferd";
    setenv("PATH", folder, 1);
    build(&b, in, "{}");
    assert_string_equal(b.text, server);
    unlink(server);
    rmdir(folder);
}

/* ---- options ---- */

static void wrong_values_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *type, *options, *param, *part;
    } cases[] = {
        {"llama_cpp", "{'ctx_size':'many'}", "backend_options.ctx_size", "a whole number"},
        {"llama_cpp", "{'ctx_size':1.5}", "backend_options.ctx_size", "a whole number"},
        {"llama_cpp", "{'c':true}", "backend_options.ctx_size", "a whole number"},
        {"llama_cpp", "{'port':65536}", "backend_options.port", "0 to 65535"},
        {"llama_cpp", "{'port':-1}", "backend_options.port", "0 to 65535"},
        {"llama_cpp", "{'temp':'warm'}", "backend_options.temp", "a number"},
        {"llama_cpp", "{'temp':'inf'}", "backend_options.temp", "a number"},
        {"llama_cpp", "{'temp':'0x1p3'}", "backend_options.temp", "a number"},
        {"llama_cpp", "{'alias':7}", "backend_options.alias", "a string"},
        {"llama_cpp", "{'mmap':'yes'}", "backend_options.mmap", "true or false"},
        {"llama_cpp", "{'lora':[true]}", "backend_options.lora", "an array of strings"},
        {"llama_cpp", "{'spec_replace':'one'}", "backend_options.spec_replace", "two"},
        {"llama_cpp", "{'spec_replace':['a','b','c']}", "backend_options.spec_replace", "two"},
        {"llama_cpp", "{'gpu_layers':'some'}", "backend_options.gpu_layers", "auto"},
        {"llama_cpp", "{'extra_args':[]}", "backend_options.extra_args", "an object"},
        {"llama_cpp", "{'extra_args':{'':'x'}}", "backend_options.", "no option"},
        {"llama_cpp", "{'unknown':[{}]}", "backend_options.unknown", "an array of strings"},
        {"llama_cpp", "[]", "backend_options", "an object"},
        {"worker", "{}", "backend_options.model", "required"},
        {"worker", "{'model':'m','contxt_size':1}", "backend_options.contxt_size", "did you mean 'context_size'?"},
        {"worker", "{'model':'m','extra_args':{'a':'b'}}", "backend_options.extra_args", "no option"},
        {"command", "{}", "backend_options.argv", "required"},
        {"command", "{'argv':'x'}", "backend_options.argv", "required"},
        {"command", "{'argv':['x',1]}", "backend_options.argv", "strings"},
        {"command", "{'argv':['x'],'health':'h'}", "backend_options.health", "'/'"},
        {"command", "{'argv':['x'],'cwd':'h'}", "backend_options.cwd", "absolute"},
        {"command", "{'argv':['x'],'prot':1}", "backend_options.prot", "argv, health"},
        {"command", "{'argv':['x'],'port':70000}", "backend_options.port", "65535"},
        {"command", "{'argv':['x','{port}']}", "backend_options.argv", "{port}"},
        {"command", "{'argv':['x','{socket}'],'port':1}", "backend_options.argv", "{socket}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct built b;
        build(&b, (struct backend_input){.backend = backend(cases[i].type), .program = "/i"}, cases[i].options);
        assert_false(b.good);
        assert_int_equal(b.err.code, ERR_INVALID_PARAMETERS);
        assert_string_equal(b.err.param, cases[i].param);
        if (!strstr(b.err.message, cases[i].part))
            print_error("%s: %s\n", cases[i].options, b.err.message);
        assert_non_null(strstr(b.err.message, cases[i].part));
    }
}

static void too_many_arguments_are_an_error(void **state)
{
    (void)state;
    json_t *many = json_array(), *options = json_pack("{s:o}", "lora", many);
    struct built b;
    struct backend_input in = {.backend = backend("llama_cpp")};
    for (int i = 0; i < BACKEND_ARGUMENTS / 2; i++)
        json_array_append_new(many, json_string("x"));
    run_build(&b, &in, options);
    assert_false(b.good);
    assert_non_null(strstr(b.err.message, "more than"));
    json_array_remove(many, 0);
    run_build(&b, &in, options);
    assert_true(b.good);
    json_decref(options);
}

static void every_alias_means_its_key(void **state)
{
    (void)state;
    static const struct {
        const char *alias, *key;
    } aliases[] = {
#define ALIAS(name, key) {#name, #key},
#include "instance/llama_aliases.def"
#undef ALIAS
    };
    static const char *const values[] = {"true", "7", "'a b'", "['x']"}; /* of one of these types it is */
    const struct backend *llama = backend("llama_cpp");
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
        bool found = false;
        for (size_t v = 0; v < 4 && !found; v++) {
            char text[64];
            struct err err;
            snprintf(text, sizeof text, "{'%s':%s}", aliases[i].alias, values[v]);
            json_t *given = document(text), *got = llama->canonical(given, &err);
            found = got && json_object_get(got, aliases[i].key);
            assert_true(!got || found); /* never an extra argument */
            json_decref(given);
            json_decref(got);
        }
        assert_true(found);
    }
}

static void canonical_options_stay_as_they_are(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        struct err err;
        json_t *given = document(golden[i].options);
        json_t *once = backend(golden[i].type)->canonical(given, &err);
        json_t *twice = backend(golden[i].type)->canonical(once, &err);
        assert_true(json_equal(once, twice));
        json_decref(given);
        json_decref(once);
        json_decref(twice);
    }
}

/* ---- parsing ---- */

static void parses(const char *type, const char *command, const char *expected)
{
    struct err err = ERR_INIT;
    json_t *got = backend_parse_command(backend(type), str_from(command), &err), *want = document(expected);
    if (!got)
        print_error("%s: %s\n", command, err.message);
    assert_non_null(got);
    assert_string_equal(json_string_value(json_object_get(got, "backend_type")), type);
    json_object_del(got, "backend_type");
    if (!json_equal(got, want))
        print_error("%s: %s\n", command, json_dumps(got, 0));
    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
}

static void command_lines_are_understood(void **state)
{
    (void)state;
    parses(
        "llama_cpp", "llama-server -m /m.gguf -ngl 16 --custom-arg test --new-feature",
        "{'backend_options':{'model':'/m.gguf','gpu_layers':16,'extra_args':{'custom-arg':'test','new-feature':''}}}");
    parses("llama_cpp", "llama-server -ngl -1 --temp -0.5 --unknown -3 --other --x=-y",
           "{'backend_options':{'gpu_layers':-1,'temp':-0.5,'extra_args':{'unknown':'-3','other':'','x':'-y'}}}");
    parses("llama_cpp", "CUDA_VISIBLE_DEVICES=0 X='a b' /opt/LLAMA-Server /m.gguf --jinja --no-mmap -c=5",
           "{'backend_options':{'model':'/m.gguf','jinja':true,'no_mmap':true,'ctx_size':5},"
           "'environment':{'CUDA_VISIBLE_DEVICES':'0','X':'a b'}}");
    parses("llama_cpp", "llama-server /ignored --model /m --metrics=false --fim-qwen-1.5b-default --alias 7",
           "{'backend_options':{'model':'/m','metrics':false,'fim_qwen_1_5b_default':true,'alias':'7'}}");
    parses(
        "llama_cpp", "--lora a --lora=b --control-vector-layer-range 1 2 -zz 1 -zz 2",
        "{'backend_options':{'lora':['a','b'],'control_vector_layer_range':['1','2'],'extra_args':{'-zz':['1','2']}}}");
    parses("vllm", "serve org/m --tensor-parallel-size 2",
           "{'backend_options':{'model':'org/m','tensor_parallel_size':2}}");
    parses("vllm", "vllm serve org/m --middleware a --middleware=b -tp 4 --no-enable-prefix-caching --x.y 1",
           "{'backend_options':{'model':'org/m','middleware':['a','b'],'tensor_parallel_size':4,"
           "'no_enable_prefix_caching':true,'extra_args':{'x.y':'1'}}}");
    parses("mlx_lm", "mlx_lm.server --model m --port 80", "{'backend_options':{'model':'m','port':80}}");
    parses("worker", "inferd worker --model /m --ctx-size 5", "{'backend_options':{'model':'/m','context_size':5}}");
    parses("command", "A=1 docker run 'a b'",
           "{'backend_options':{'argv':['docker','run','a b']},'environment':{'A':'1'}}");
}

static void command_lines_that_mean_nothing_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *type, *command, *part;
    } cases[] = {
        {"llama_cpp", "", "empty"},
        {"llama_cpp", "A=1", "empty"},
        {"llama_cpp", "\"unterminated", "unclosed"},
        {"llama_cpp", "---x", "no flag"},
        {"llama_cpp", "llama-server --", "no flag"},
        {"llama_cpp", "llama-server -fa", "needs a value"},
        {"llama_cpp", "llama-server -m --port 80", "needs a value"},
        {"llama_cpp", "llama-server --spec-replace a", "two values"},
        {"llama_cpp", "llama-server -c many", "a whole number"},
        {"llama_cpp", "llama-server --metrics yes", "'yes' belongs to no flag"},
        {"llama_cpp", "llama-server --metrics=yes", "true or false"},
        {"llama_cpp", "/usr/bin/docker run image -m x", "container"},
        {"vllm", "podman run image", "container"},
        {"worker", "inferd worker --model m --prot 1", "no option"},
        {"worker", "inferd worker", "required"},
        {"command", "'' x", "required"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = ERR_INIT;
        assert_null(backend_parse_command(backend(cases[i].type), str_from(cases[i].command), &err));
        assert_int_equal(err.code, ERR_INVALID_PARAMETERS);
        if (!strstr(err.message, cases[i].part))
            print_error("%s: %s\n", cases[i].command, err.message);
        assert_non_null(strstr(err.message, cases[i].part));
    }
}

/* What is built from a parsed command line parses to the same and is built to the same. */
static void a_round_trip_loses_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *type, *command;
    } cases[] = {
        {"llama_cpp", "llama-server --ctx-size 4096 --gpu-layers -1 --temp 0.7 --model /m.gguf --port 8000 --jinja"},
        {"llama_cpp", "llama-server --no-mmap --lora a --lora b --metrics --custom-arg test --new-feature -zz 5"},
        {"llama_cpp", "llama-server --seed 0 --spec-replace a b --unknown -3 --again 1 --again 2 --bare --bare"},
        {"llama_cpp", "llama-server --no-such-switch --model /m --some.dotted_name v"},
        {"vllm", "vllm serve org/m --port 80 --tensor-parallel-size 2 --api-key a --enable-foo --x.y 1"},
        {"mlx_lm", "mlx_lm.server --model m --port 80 --trust-remote-code --temp 0 --new 1"},
        {"worker", "/opt/inferd worker --model /m --context-size 5 --gpu-layers auto --no-mmap --top-p 0.5"},
        {"command", "/bin/x -a --b=c d"},
    };
    setenv("PATH", "/nonexistent", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = ERR_INIT;
        struct built b;
        json_t *first = backend_parse_command(backend(cases[i].type), str_from(cases[i].command), &err);
        assert_non_null(first);
        struct backend_input in = {.backend = backend(cases[i].type), .program = "/opt/inferd"};
        run_build(&b, &in, json_object_get(first, "backend_options"));
        json_t *second = backend_parse_command(backend(cases[i].type), str_from(b.text), &err);
        assert_true(json_equal(first, second));
        assert_int_equal(strlen(b.text), strlen(cases[i].command)); /* the same words, perhaps in another order */
        json_decref(first);
        json_decref(second);
    }
}

/* ---- the table ---- */

static void backends_are_found_by_name(void **state)
{
    (void)state;
    struct err err;
    size_t count = 0;
    for (const struct backend *const *b = backend_all(); *b; b++, count++)
        assert_ptr_equal(backend((*b)->type), *b);
    assert_int_equal(count, 5);
    assert_null(backend_find(STR("llama-cpp"), &err));
    assert_string_equal(err.param, "backend_type");
    assert_string_equal(err.message, "'backend_type' must be one of worker, llama_cpp, vllm, mlx_lm, command; did you "
                                     "mean 'llama_cpp'?");
    assert_null(backend_find(STR(""), &err));
}

static void served_names_are_the_backends_own(void **state)
{
    (void)state;
    json_t *plain = document("{'model':'org/m'}"), *named = document("{'model':'org/m','served_model_name':'s'}");
    assert_string_equal(backend("vllm")->served_model(plain), "org/m");
    assert_string_equal(backend("vllm")->served_model(named), "s");
    assert_string_equal(backend("mlx_lm")->served_model(plain), "org/m");
    assert_null(backend("llama_cpp")->served_model(plain));
    assert_null(backend("worker")->served_model(plain));
    assert_null(backend("command")->served_model(plain));
    json_decref(plain);
    json_decref(named);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(command_lines_are_exact),
        cmocka_unit_test(what_the_manager_decides_is_in_its_place),
        cmocka_unit_test(the_workers_arguments_stand_alone),
        cmocka_unit_test(configuration_comes_before_options),
        cmocka_unit_test(llama_server_is_found_on_path_and_beside_us),
        cmocka_unit_test(wrong_values_are_named),
        cmocka_unit_test(too_many_arguments_are_an_error),
        cmocka_unit_test(every_alias_means_its_key),
        cmocka_unit_test(canonical_options_stay_as_they_are),
        cmocka_unit_test(command_lines_are_understood),
        cmocka_unit_test(command_lines_that_mean_nothing_are_refused),
        cmocka_unit_test(a_round_trip_loses_nothing),
        cmocka_unit_test(backends_are_found_by_name),
        cmocka_unit_test(served_names_are_the_backends_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
