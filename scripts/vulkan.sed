# llama.cpp 0.5.0's Vulkan backend asks in most places what the compiler and the headers know; in these it forgets to,
# and Debian 12's are too old (glslc 2023.2 has no cooperative matrices, headers 1.3.239 no layer settings). The lines
# get the condition that their neighbours have. With newer ones nothing changes.

# Two shaders for Intel's newer GPUs, and their one use.
/string_to_spv\("fa_decode_ph[12]"|"xe_fa_decode_ph[12]"|^ *xe_fa_opt = / {
    s/^/#if defined(GGML_VULKAN_COOPMAT_GLSLC_SUPPORT)\n/
    s/$/\n#endif/
}

# Settings of the validation layer, which only debug builds of it use.
/VkBool32 enable_best_practice = / s/^/#ifdef VK_EXT_LAYER_SETTINGS_EXTENSION_NAME\n/
/vk::InstanceCreateInfo instance_create_info\(.*, &layer_setting_info\);/ {
    h
    s/, &layer_setting_info//
    x
    G
    s/\n/\n#else\n/
    s/$/\n#endif/
}
