#include "unit/unit.h"

#include "conf/conf.h"

static char path[] = "/tmp/inferd-conf-XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static bool read_text(struct conf *conf, const char *text, struct err *err)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    conf_init(conf);
    return conf_read_file(conf, path, err) && conf_finish(conf, err);
}

static void values_of_every_kind_arrive(void **state)
{
    (void)state;
    struct conf conf;
    struct err err;
    assert_true(read_text(
        &conf,
        "models_dir = '/m'\nimport_dirs = ['/a', \"/b\"]\nlog_level = 'debug'\n[server]\nport = 9\n[backend_config]\n"
        "gpu_layers = 'auto'\nmemory_map = false\n[inference]\ndefault_temperature = 1\n[models.\"a/b:c\"]\naliases = "
        "['x']\npin = true\nlora = ['a.gguf=0.5', 'b.gguf']\n",
        &err));
    assert_string_equal(conf.models_dir, "/m");
    assert_string_equal(conf.import_dirs[1], "/b");
    assert_null(conf.import_dirs[2]);
    assert_int_equal(conf.log_level, 1);
    assert_int_equal(conf.port, 9);
    assert_int_equal(conf.gpu_layers, CONF_AUTO_VALUE);
    assert_false(conf.memory_map);
    assert_true(conf.default_temperature == 1.0);
    assert_int_equal(conf.max_cached_models, 5); /* untouched default */
    const struct conf_model *m = conf_model_find(&conf, STR("a/b:c"));
    assert_non_null(m);
    assert_true(m->pin);
    assert_int_equal(m->context_size, -1);
    assert_string_equal(m->aliases[0], "x");
    assert_string_equal(m->lora[0], "a.gguf=0.5");
    assert_null(m->lora[2]);
    conf_release(&conf);
}

static void mistakes_are_named_with_line_and_way_out(void **state)
{
    (void)state;
    static const struct {
        const char *text, *first, *second;
    } cases[] = {
        {"\n\n[server]\nprot = 1\n", ":4:", "did you mean 'port'?"},
        {"[servre]\n", ":1:", "did you mean [server]?"},
        {"log_levl = 'info'\n", ":1:", "did you mean 'log_level'?"},
        {"log_level = 'loud'\n", "'log_level' must be one of", "trace debug info warn error"},
        {"[server]\nport = 70000\n", "'server.port'", "between 0 and 65535"},
        {"[server]\nport = '80'\n", "'server.port'", "a whole number"},
        {"[server]\nport = 1.5\n", "'server.port'", "a whole number"},
        {"[cache]\nalways_warm = 'x'\n", "'cache.always_warm'", "an array of strings"},
        {"[models]\nx = 1\n", "[models] holds tables only", ":2:"},
        {"[models.x]\npinn = true\n", "unknown key 'pinn'", "did you mean 'pin'?"},
        {"[server\n", ":1:", "']' was expected"},
        {"a = \n", ":1:", "a value was expected"},
        {"[backend_config]\nbatch_size = 64\nubatch_size = 128\n", "ubatch_size", "must not exceed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct conf conf;
        struct err err = ERR_INIT;
        assert_false(read_text(&conf, cases[i].text, &err));
        assert_int_equal(err.code, ERR_CONFIG);
        if (!strstr(err.message, cases[i].first) || !strstr(err.message, cases[i].second))
            print_error("%s -> %s\n", cases[i].text, err.message);
        assert_non_null(strstr(err.message, cases[i].first));
        assert_non_null(strstr(err.message, cases[i].second));
        conf_release(&conf);
    }
}

static void environment_beats_files_and_flags_beat_both(void **state)
{
    (void)state;
    struct conf conf;
    struct err err;
    FILE *file = fopen(path, "w");
    fputs("[server]\nport = 1\nmax_body_mb = 7\n", file);
    fclose(file);
    setenv("HOME", "/nonexistent", 1);
    unsetenv("XDG_CONFIG_HOME");
    setenv("INFERNO_SERVER__PORT", "2", 1);
    assert_true(conf_load(&conf, path, &err));
    assert_int_equal(conf.port, 2);
    assert_int_equal(conf.max_body_mb, 7);
    assert_true(conf_set(&conf, "server.port", "3", "--port", &err));
    assert_int_equal(conf.port, 3);
    assert_false(conf_set(&conf, "server.port", "x", "--port", &err));
    assert_non_null(strstr(err.message, "--port"));
    conf_release(&conf);
    setenv("INFERNO_SERVER__PORT", "no", 1);
    assert_false(conf_load(&conf, path, &err));
    assert_non_null(strstr(err.message, "INFERNO_SERVER__PORT"));
    conf_release(&conf);
    unsetenv("INFERNO_SERVER__PORT");
}

static void what_is_printed_can_be_read_back(void **state)
{
    (void)state;
    struct conf conf, again;
    struct err err = ERR_INIT;
    assert_true(read_text(&conf, "import_dirs = ['/a b', '/c\"d']\n[models.'x y']\nfile = '/f'\n", &err));
    FILE *file = fopen(path, "w");
    conf_print(&conf, file);
    fclose(file);
    conf_init(&again);
    if (!conf_read_file(&again, path, &err))
        print_error("%s\n", err.message);
    assert_int_equal(err.code, ERR_NONE);
    assert_string_equal(again.import_dirs[1], "/c\"d");
    assert_string_equal(conf_model_find(&again, STR("x y"))->file, "/f");
    conf_release(&again);
    conf_release(&conf);
}

static void tables_of_the_instance_manager(void **state)
{
    struct conf conf;
    struct err err;
    (void)state;
    assert_true(
        read_text(&conf,
                  "local_node = 'a'\n[instances]\nport_range = [9000, 9010]\ngroup_limits = { big = 1, small = 3 }\n"
                  "[auth]\nrequire_management_auth = true\nmanagement_keys = ['k1', 'k2']\n"
                  "[backends.llama-cpp]\ncommand = '/bin/x'\n[backends.llama-cpp.environment]\nA = 'b=c'\n"
                  "[backends.llama-cpp.docker]\nenabled = true\nimage = 'i'\n"
                  "[nodes.far]\naddress = 'http://10.0.0.2:8080'\napi_key = 's'\n",
                  &err));
    assert_int_equal(conf.port_range.low, 9000);
    assert_int_equal(conf.port_range.high, 9010);
    assert_string_equal(conf_map_find(conf.group_limits, STR("small")), "3");
    assert_null(conf_map_find(conf.group_limits, STR("smal")));
    assert_int_equal(conf.require_management_auth, 1);
    assert_int_equal(conf.require_inference_auth, CONF_AUTO_VALUE);
    assert_string_equal(conf.management_keys[1], "k2");
    const struct conf_backend *llama = conf_backend_find(&conf, STR("llama-cpp"));
    assert_string_equal(llama->command, "/bin/x");
    assert_string_equal(conf_map_find(llama->environment, STR("A")), "b=c");
    assert_true(llama->docker_enabled);
    assert_string_equal(llama->docker_image, "i");
    assert_string_equal(conf_backend_find(&conf, STR("vllm"))->args[0], "serve");
    assert_string_equal(conf_node_find(&conf, STR("far"))->api_key, "s");
    conf_release(&conf);
}

static void mistakes_in_them(void **state)
{
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"[instances]\nport_range = [9010, 9000]\n", "low to high"},
        {"[instances]\nport_range = [80, 90]\n", "1024"},
        {"[instances]\nport_range = 7\n", "two whole numbers"},
        {"[auth]\nrequire_management_auth = 'yes'\n", "true, false or \"auto\""},
        {"[instances]\ngroup_limits = { a = true }\n", "strings or whole numbers"},
        {"[backends.vllm]\ncomand = 'x'\n", "did you mean 'command'"},
        {"[backends.vllm.docker]\nimmage = 'x'\n", "docker_image"},
        {"[nodes]\nfar = 'x'\n", "[nodes.\"NAME\"]"},
        {"[instance]\n", "did you mean [instances]"},
    };
    struct conf conf;
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_false(read_text(&conf, cases[i].text, &err));
        if (!strstr(err.message, cases[i].said))
            print_error("%s: %s\n", cases[i].text, err.message);
        assert_non_null(strstr(err.message, cases[i].said));
        conf_release(&conf);
    }
}

static void secrets_are_not_printed(void **state)
{
    struct conf conf;
    struct err err;
    char *text = NULL;
    size_t size;
    (void)state;
    assert_true(read_text(&conf,
                          "[auth]\nmanagement_keys = ['s3cret']\n[backends.vllm.environment]\nT = 's3cret'\n"
                          "[nodes.far]\napi_key = 's3cret'\n[instances]\ngroup_limits = { a = 2 }\n",
                          &err));
    FILE *out = open_memstream(&text, &size);
    conf_print(&conf, out);
    fclose(out);
    assert_null(strstr(text, "s3cret"));
    assert_non_null(strstr(text, "# management_keys = [\"***\"]"));
    assert_non_null(strstr(text, "group_limits = { \"a\" = \"2\" }"));
    free(text);
    conf_release(&conf);
}

static void adapters_are_bounded(void **state)
{
    (void)state;
    struct conf conf;
    struct err err;
    assert_false(read_text(&conf, "[models.\"m\"]\nlora = ['1', '2', '3', '4', '5', '6', '7', '8', '9']\n", &err));
    assert_string_equal(err.message, "'models.\"m\".lora' has 9 adapters; at most 8 are allowed");
    conf_release(&conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_kind_arrive),
        cmocka_unit_test(mistakes_are_named_with_line_and_way_out),
        cmocka_unit_test(environment_beats_files_and_flags_beat_both),
        cmocka_unit_test(what_is_printed_can_be_read_back),
        cmocka_unit_test(tables_of_the_instance_manager),
        cmocka_unit_test(mistakes_in_them),
        cmocka_unit_test(secrets_are_not_printed),
        cmocka_unit_test(adapters_are_bounded),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
