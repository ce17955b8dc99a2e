/* A Vulkan driver that is Mesa's lavapipe under SwiftShader's vendor and device ids: of processors, Chromium takes that
   one alone as a WebGPU adapter. LAVAPIPE is the path of libvulkan_lvp.so. Made and installed by lavapipe.py. */
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

typedef void (*Function)(void);
typedef Function (*GetAddress)(void *instance, const char *name);
typedef void (*GetProperties)(void *device, uint32_t *properties);
typedef int32_t (*Negotiate)(uint32_t *version);

enum { GOOGLE = 0x1AE0, SWIFTSHADER = 0xC0DE };

static GetProperties first, second, second_khr;

static void *found(const char *name) {
  static void *library;
  if (!library) library = dlopen(LAVAPIPE, RTLD_NOW | RTLD_LOCAL);
  return library ? dlsym(library, name) : 0;
}

/* VkPhysicalDeviceProperties: apiVersion, driverVersion, vendorID, deviceID, ... */
static void renamed(uint32_t *properties) {
  properties[2] = GOOGLE;
  properties[3] = SWIFTSHADER;
}

static void get_first(void *device, uint32_t *properties) {
  first(device, properties);
  renamed(properties);
}

/* VkPhysicalDeviceProperties2: the same behind sType and pNext */
static void get_second(void *device, uint32_t *properties) {
  second(device, properties);
  renamed(properties + 4);
}

static void get_second_khr(void *device, uint32_t *properties) {
  second_khr(device, properties);
  renamed(properties + 4);
}

static Function address(const char *from, void *instance, const char *name) {
  GetAddress get = (GetAddress)found(from);
  Function function = get ? get(instance, name) : 0;
  if (!function) return 0;
  if (!strcmp(name, "vkGetPhysicalDeviceProperties")) {
    first = (GetProperties)function;
    return (Function)get_first;
  }
  if (!strcmp(name, "vkGetPhysicalDeviceProperties2")) {
    second = (GetProperties)function;
    return (Function)get_second;
  }
  if (!strcmp(name, "vkGetPhysicalDeviceProperties2KHR")) {
    second_khr = (GetProperties)function;
    return (Function)get_second_khr;
  }
  return function;
}

Function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
  return address("vk_icdGetInstanceProcAddr", instance, name);
}

Function vk_icdGetPhysicalDeviceProcAddr(void *instance, const char *name) {
  return address("vk_icdGetPhysicalDeviceProcAddr", instance, name);
}

int32_t vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version) {
  Negotiate negotiate = (Negotiate)found("vk_icdNegotiateLoaderICDInterfaceVersion");
  return negotiate ? negotiate(version) : -9; /* VK_ERROR_INCOMPATIBLE_DRIVER */
}
