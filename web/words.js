/** The words of our widgets in the editor's language. */
import { app } from "../../scripts/app.js";

const CHINESE = {
  "not here": "未下载",
  "size unknown": "大小未知",
  "Download {name}?": "下载 {name}？",
  "It is not on this machine. The next run would fetch {size}. Its licence: {licence}":
    "本机没有此文件。下次运行将下载 {size}。许可证：{licence}",
  "Run to see the contact sheet here, and click the pairs to leave out.":
    "运行后在此显示联系表，点击要排除的样本。",
  "Training pairs": "训练样本",
  Faces: "人脸",
  "Face {number}": "人脸 {number}",
  " left out": " 已去除",
  "{count} of {all} left out.": "已去除 {count} / {all}。",
  "One face must stay.": "至少须保留一张人脸。",
  " rejected": " 已排除",
  "{count} of {all} rejected.": "已排除 {count} / {all}。",
  "Page {page} of {pages}.": "第 {page} 页，共 {pages} 页。",
  "The next run writes it down.": "下次运行时写入。",
  "Not marked": "未标记",
  "The input {name} is connected and decides by itself.": "输入 {name} 已连接，由它决定。",
  "like: likeness to the guess in dB. moved: eyes, nose, mouth. sharp, grain. niqe: lower is more natural.":
    "like：与猜测图的相似度（dB）。moved：五官移动。sharp：清晰度。grain：噪点。niqe：越低越自然。",
  "Run to see the grid here, and click a cell to sample with its settings.":
    "运行后在此显示网格，点击一格即可使用其设置采样。",
  "Combinations of settings": "设置组合",
  "Click a cell to copy its settings into Sample Pseudo Targets.":
    "点击一格，将其设置复制到“采样伪目标”。",
  "Add a Sample Pseudo Targets node to the workflow: double-click the canvas.":
    "请在工作流中添加“采样伪目标”节点：双击画布。",
  "Several nodes could take them. Select one and click again.": "有多个节点可用。请选中一个再点击。",
  "Not copied": "未复制",
  "Copied to": "已复制到",
  "Left alone, since they are connected: {names}.": "以下已连接，保持不变：{names}。",
  "Run to see both under one slider here.": "运行后在此用滑块对比两张图。",
  "Run to see the report here.": "运行后在此显示报告。",
  "Before and after": "修复前后",
  before: "修复前",
  after: "修复后",
  Previous: "上一张",
  Next: "下一张",
  "The picture of the last run is gone. Run again to see it.": "上次运行的图片已不存在，请重新运行。",
};

// Choices on the nodes, whose English names are what workflows save. What has no word of its own,
// such as a sampler or a file, stays as it is.
const CHOICES = {
  "embedded default": "内置默认",
  "none yet": "暂无",
  none: "无",
  auto: "自动",
  soft: "柔性",
  paper: "论文",
  "low resolution": "低分辨率",
  noise: "噪点",
  compression: "压缩",
  "faded print": "褪色照片",
  newspaper: "报纸",
  "camera noise ISO 1500": "相机噪点 ISO 1500",
  "camera noise ISO 3000": "相机噪点 ISO 3000",
  quick: "快速",
  "quick demo": "快速演示",
  "SwinIR (paper)": "SwinIR（论文）",
  "CodeFormer (paper)": "CodeFormer（论文）",
  pyramid: "金字塔",
  continue: "继续",
  "start anew": "重新开始",
  "soft oval": "柔和椭圆",
  square: "方形",
  parsing: "解析轮廓",
  "low frequency": "低频",
  refuse: "拒绝",
  overwrite: "覆盖",
  skip: "跳过",
  "face, reference and difference": "人脸、参考与差异",
  "predicted face": "预测的人脸",
  size: "尺寸",
  score: "分数",
  "left to right": "从左到右",
  "top to bottom": "从上到下",
  "low-pass factor": "低通系数",
  start: "起始步",
  stop: "停止步",
  strength: "强度",
  sampler: "采样器",
  "network calls": "网络调用次数",
  seed: "种子",
  freedom: "自由度",
  detail: "细节",
  hold: "约束方式",
  error: "误差",
};

/** The editor's language, such as "zh" or "en". */
export function language() {
  return app.extensionManager?.setting?.get?.("Comfy.Locale") ?? "en";
}

/** A text of ours as the editor's language has it; English where there is none. */
export function t(text, values = {}) {
  const found = (language().startsWith("zh") && CHINESE[text]) || text;
  return found.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** A choice as the editor's language has it, beside its name, which help and workflows use. */
export function choice(name) {
  const found = language().startsWith("zh") && CHOICES[name];
  return found ? `${found} · ${name}` : name;
}
