# Tests that are programs of their own: scripts over the whole tree, the real binary, the vendors' clients.
# scripts/test.sh prepares what they need and names it in the environment.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(test_environment "INFERD=$<TARGET_FILE:inferd>" "INFERD_MODELS=${INFERD_MODELS}" "INFERD_TINY=${INFERD_TINY}"
  "INFERD_PROJECTORS=${CMAKE_CURRENT_BINARY_DIR}" "PYTHONPATH=${CMAKE_CURRENT_SOURCE_DIR}/sys"
  "PYTHONDONTWRITEBYTECODE=1")

add_test(NAME tree/arrows COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/arrows.py)

if(NOT INFERD_SANITIZE AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
  add_test(NAME build/analyze COMMAND ${CMAKE_SOURCE_DIR}/scripts/analyze.sh)
  set_tests_properties(build/analyze PROPERTIES TIMEOUT 600)
endif()

add_executable(toml_decoder tools/toml_decoder.c)
target_link_libraries(toml_decoder PRIVATE inferd_gateway)
add_test(NAME conf/toml_suite COMMAND sh -c "exec \"\$INFERD_TOML_TEST\" test -toml 1.0 -decoder \"$<TARGET_FILE:toml_decoder>\"")

add_executable(fetch_driver tools/fetch_driver.c)
target_link_libraries(fetch_driver PRIVATE inferd_gateway)
list(APPEND test_environment "FETCH_DRIVER=$<TARGET_FILE:fetch_driver>")

add_executable(argon2_phc tools/argon2_phc.c)
target_link_libraries(argon2_phc PRIVATE inferd_gateway)
list(APPEND test_environment "ARGON2_PHC=$<TARGET_FILE:argon2_phc>")

# WebSocket's protocol, against a server that echoes.
add_executable(ws_echo ws/echo.c)
target_link_libraries(ws_echo PRIVATE inferd_core)
add_test(NAME ws/protocol COMMAND ${Python3_EXECUTABLE} -m unittest -v test_protocol.py)
set_tests_properties(ws/protocol PROPERTIES TIMEOUT 300 ENVIRONMENT "WS_ECHO=$<TARGET_FILE:ws_echo>;PYTHONDONTWRITEBYTECODE=1"
  WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/ws)

# GPUs, on a software device: with the program that `make GPU=vulkan` builds beside this folder.
if(NOT INFERD_SANITIZE AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
  add_test(NAME sys/gpu COMMAND ${Python3_EXECUTABLE} -m unittest -v test_gpu.py)
  set_tests_properties(sys/gpu PROPERTIES TIMEOUT 600 RUN_SERIAL ON WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/sys
    ENVIRONMENT "${test_environment};INFERD=${CMAKE_SOURCE_DIR}/build-vulkan/inferd;INFERD_CPU=$<TARGET_FILE:inferd>")
endif()

file(GLOB system_tests CONFIGURE_DEPENDS sys/test_*.py)
list(FILTER system_tests EXCLUDE REGEX "/test_gpu\\.py$")
foreach(script IN LISTS system_tests)
  get_filename_component(name ${script} NAME_WE)
  string(REPLACE "test_" "" name ${name})
  add_test(NAME sys/${name} COMMAND ${Python3_EXECUTABLE} -m unittest -v ${script})
  set_tests_properties(sys/${name} PROPERTIES TIMEOUT 300 RUN_SERIAL ON ENVIRONMENT "${test_environment}"
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/sys)
endforeach()

add_test(NAME sdk/openai COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/sdk/run.py)
set_tests_properties(sdk/openai PROPERTIES TIMEOUT 600 RUN_SERIAL ON ENVIRONMENT "${test_environment}")

# The other builds' tests, where scripts/test.sh made them: one summary for all.
foreach(preset IN ITEMS asan tsan clang)
  if(NOT INFERD_SANITIZE AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
    add_test(NAME build/${preset} COMMAND ${CMAKE_SOURCE_DIR}/scripts/sanitized.sh ${preset})
    set_tests_properties(build/${preset} PROPERTIES TIMEOUT 900 RUN_SERIAL ON)
  endif()
endforeach()
